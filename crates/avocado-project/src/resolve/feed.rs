//! The package feed and the SDK.

use std::path::PathBuf;

use avocado_manifest::Name;

use crate::decode::{Spanned, decode};
use crate::diagnostic::quoted;
use crate::model::{Distro, Sdk};
use crate::raw::{RawDistro, RawSdk, Text};

use super::Resolver;

/// Where packages come from if nobody says otherwise.
const DEFAULT_URL: &str = "https://repo.avocadolinux.org";

impl Resolver<'_, '_> {
    /// The feed: each value from the environment, then `distro`, then the old keys of `sdk`.
    pub(super) fn distro(&mut self) -> Distro {
        let raw: RawDistro = self.decoded("distro");
        let repo = raw.repo.unwrap_or_default();
        // What is wrong with `sdk` as a whole is reported where the SDK is resolved.
        let old = |name| {
            let node = self.root.get("sdk")?.get(name)?;
            Some(Spanned {
                value: node.as_text()?.to_owned(),
                span: node.span,
            })
        };
        let (old_url, old_releasever) = (old("repo_url"), old("repo_release"));

        let url = self
            .given_by(&["AVOCADO_REPO_URL", "AVOCADO_SDK_REPO_URL"])
            .or(repo.url.map(Given::File))
            .or(old_url.map(Given::File));
        let releasever = self
            .given_by(&["AVOCADO_RELEASEVER", "AVOCADO_SDK_REPO_RELEASE"])
            .or(repo.releasever.map(Given::File))
            .or(old_releasever.map(Given::File));
        let release = self
            .given_by(&["AVOCADO_DISTRO_RELEASE"])
            .or(raw.release.map(Given::File));
        let channel = self
            .given_by(&["AVOCADO_DISTRO_CHANNEL"])
            .or(raw.channel.map(Given::File));
        let insecure = self.variable("AVOCADO_REPO_INSECURE");
        let insecure = insecure.as_deref().map(str::to_ascii_lowercase);
        let insecure = matches!(insecure.as_deref(), Some("1" | "true" | "yes"));
        Distro {
            release: self.release_part(release),
            channel: self.release_part(channel),
            repo_url: self.url(url),
            releasever: self.release_part(releasever),
            ca: self.ca(repo.ca),
            tls_verify: !insecure && repo.tls_verify.unwrap_or(true),
        }
    }

    pub(super) fn sdk(&mut self) -> Sdk {
        let raw: RawSdk = self.decoded("sdk");
        Sdk {
            image: raw.image,
            packages: self.packages(raw.packages),
            disable_weak_dependencies: raw.disable_weak_dependencies.unwrap_or(false),
        }
    }

    /// A section that may be absent.
    fn decoded<T: serde::de::DeserializeOwned + Default>(&mut self, section: &str) -> T {
        let node = self.root.get(section);
        let decoded = node.and_then(|node| decode(node, self.report));
        decoded.map(|d| d.value).unwrap_or_default()
    }

    fn given_by(&self, names: &[&'static str]) -> Option<Given> {
        names
            .iter()
            .find_map(|name| Some(Given::Env(name, self.variable(name)?)))
    }

    fn url(&mut self, given: Option<Given>) -> String {
        let Some(given) = given else {
            return DEFAULT_URL.to_owned();
        };
        let url = given.text().trim_end_matches('/');
        let rest = ["https://", "http://", "file://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let space = |c: char| c.is_whitespace() || c.is_control();
        if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(space)) {
            return url.to_owned();
        }
        let why = "is not the URL of a feed";
        self.complain(&given, why, "write for example https://feed.example.org");
        DEFAULT_URL.to_owned()
    }

    /// A release, a channel or a releasever: it becomes a part of URLs.
    fn release_part(&mut self, given: Option<Given>) -> Option<String> {
        let given = given?;
        let text = given.text();
        if text.split('/').all(|part| part.parse::<Name>().is_ok()) {
            return Some(text.to_owned());
        }
        let why = "is not a usable release or channel";
        self.complain(&given, why, "write letters, digits and `. _ - + ~`");
        None
    }

    fn ca(&mut self, config: Option<Text>) -> Option<PathBuf> {
        if let Some(path) = self.variable("AVOCADO_REPO_CA") {
            let path = PathBuf::from(path);
            let path = std::path::absolute(&path).unwrap_or(path);
            if !path.is_file() {
                let shown = path.display();
                let message = format!("AVOCADO_REPO_CA: {shown} is not a file");
                self.report.error(None, message);
            }
            return Some(path);
        }
        let text = config?;
        let path = self.src_dir.join(&text.value);
        if !path.is_file() {
            let message = format!("the CA certificate {} does not exist", quoted(&text));
            self.report
                .error(text.span, message)
                .hint(format!("it is looked for at {}", path.display()));
        }
        Some(path)
    }

    fn complain(&mut self, given: &Given, why: &str, hint: &str) {
        let text = quoted(given.text());
        match given {
            Given::Env(name, _) => self.report.error(None, format!("{name}: {text} {why}")),
            Given::File(place) => self.report.error(place.span, format!("{text} {why}")),
        }
        .hint(hint);
    }
}

/// A value and who gave it.
enum Given {
    Env(&'static str, String),
    File(Text),
}

impl Given {
    fn text(&self) -> &str {
        match self {
            Given::Env(_, text) => text,
            Given::File(text) => text,
        }
    }
}
