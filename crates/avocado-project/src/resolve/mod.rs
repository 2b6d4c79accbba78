//! From the raw sections to the model: defaults, references, and every check that has a place in
//! the file.

mod extensions;
mod feed;
mod images;
mod packages;
mod paths;
mod permissions;
mod runtimes;
mod values;

use std::path::{Path, PathBuf};

use avocado_manifest::Name;

use crate::decode::{Entries, Spanned, TextOr, decode};
use crate::diagnostic::{Report, quoted};
use crate::raw::{RawKernel, RawTop, Text};
use crate::yaml::{Entry, Node, Value};
use crate::{Project, overrides, suggest};

/// What the resolution needs besides the file.
pub(crate) struct Request<'a> {
    /// The absolute path of avocado.yaml.
    pub(crate) config: &'a Path,
    /// The target, where any is given or the default of the file.
    pub(crate) target: Option<&'a str>,
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
}

/// Resolves an interpolated tree. What is wrong is added to the report; the project is whole only
/// if there is no error in it.
pub(crate) fn project(
    root: Node,
    request: &Request<'_>,
    report: &mut Report<'_>,
) -> Option<Project> {
    let top: RawTop = decode(&root, report)?.value;
    let supported = top.supported_targets.as_ref();
    let supported = supported.map(|s| targets(s, report)).unwrap_or_default();
    let target = target(request, &top, &supported, report);

    let source = top.src_dir.as_ref();
    let src_dir = source_dir(request.config, source, report);
    // Without them everything below would be wrong as well.
    let (target, src_dir) = (target?, src_dir?);

    let root = overrides::apply(root, target.as_str(), &supported, report);
    let mut resolver = Resolver {
        root: &root,
        src_dir,
        env: request.env,
        report,
    };
    let distro = resolver.distro();
    let sdk = resolver.sdk();
    let permissions = resolver.permissions();
    let mut rootfs = resolver.images(images::ROOTFS, &permissions);
    let mut initramfs = resolver.images(images::INITRAMFS, &permissions);
    resolver.kernels();
    let extensions = resolver.extensions();
    let mut surroundings = runtimes::Surroundings {
        target: &target,
        extensions: &extensions,
        permissions: &permissions,
        rootfs: &mut rootfs,
        initramfs: &mut initramfs,
    };
    let runtimes = resolver.runtimes(&top, &mut surroundings);
    let default_runtime = resolver.default_runtime(&top);
    let signing_keys = resolver.signing_keys(top.signing_keys.unwrap_or_default());
    Some(Project {
        config_path: request.config.to_owned(),
        src_dir: resolver.src_dir,
        target,
        source_date_epoch: top.source_date_epoch.unwrap_or(0),
        distro,
        sdk,
        rootfs: rootfs.entries,
        initramfs: initramfs.entries,
        extensions: extensions.entries,
        runtimes,
        default_runtime,
        signing_keys,
    })
}

/// Goes over the sections; each file of this module has some of its methods.
struct Resolver<'a, 't> {
    root: &'a Node,
    src_dir: PathBuf,
    env: &'a dyn Fn(&str) -> Option<String>,
    report: &'a mut Report<'t>,
}

impl<'a> Resolver<'a, '_> {
    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// The entries of a top-level map of names; empty where it is absent or no map.
    fn section(&mut self, name: &str) -> &'a [Entry] {
        let Some(node) = self.root.get(name) else {
            return &[];
        };
        match node.entries() {
            Some(entries) => entries,
            None => {
                let found = node.describe();
                let message = format!("`{name}` must be a map, found {found}");
                self.report.error(node.span, message);
                &[]
            }
        }
    }

    /// A name that becomes a part of paths.
    fn name(&mut self, text: &Text) -> Option<Name> {
        text.parse()
            .map_err(|error| {
                let message = format!("{error}");
                self.report.error(text.span, message);
            })
            .ok()
    }

    fn unsupported(&mut self, span: crate::yaml::Span, what: &str) {
        let message = format!("{what} is not supported by this version yet");
        self.report.error(span, message);
    }

    /// The entries of a section that is one thing (then it is called `default`) or a map of
    /// named ones. `None` where the section is absent.
    fn singleton_or_named(&mut self, name: &str) -> Option<Vec<(Text, &'a Node)>> {
        let node = self.root.get(name)?;
        let entries = self.section(name);
        node.entries()?;
        let fields = crate::raw::section_fields(name).unwrap_or_default();
        if !crate::raw::is_singleton(node, fields) {
            let named = entries.iter().map(|e| (spanned(&e.key), &e.value));
            return Some(named.collect());
        }
        let field = entries
            .iter()
            .find(|e| fields.contains(&e.key.text.as_str()));
        let mut mixed = false;
        for entry in entries {
            let known = fields.contains(&entry.key.text.as_str());
            if let (false, Value::Mapping(_), Some(field)) = (known, &entry.value.value, field) {
                let (key, field) = (quoted(&entry.key.text), &field.key.text);
                let message = format!(
                    "`{name}` mixes one unnamed entry (it has `{field}`) with a named one, {key}"
                );
                self.report
                    .error(entry.key.span, message)
                    .hint("move the fields of the unnamed entry below `default:`");
                mixed = true;
            }
        }
        if mixed {
            return None;
        }
        let span = node.span;
        let value = "default".to_owned();
        Some(vec![(Spanned { value, span }, node)])
    }

    /// Kernels are chosen by the feed; building one is not known yet.
    fn kernels(&mut self) {
        for (_, node) in self.singleton_or_named("kernel").unwrap_or_default() {
            if let Some(kernel) = decode::<RawKernel>(node, self.report) {
                self.kernel(&kernel.value);
            }
        }
    }

    fn kernel(&mut self, kernel: &RawKernel) {
        if let Some(compile) = &kernel.compile {
            self.unsupported(compile.span, "a kernel that the project compiles");
        }
        if let Some(source) = &kernel.source {
            self.unsupported(source.span, "a kernel section from another project");
        }
        self.image_type(kernel.image.as_ref(), None);
    }

    fn signing_keys(&mut self, list: Vec<Spanned<Entries<Text>>>) -> Vec<(String, String)> {
        let mut keys: Vec<(String, String)> = Vec::new();
        for item in list {
            let [(name, key)] = &item.value.0[..] else {
                let message = "each signing key is one `name: key` pair";
                self.report.error(item.span, message);
                continue;
            };
            if keys.iter().any(|(known, _)| *known == name.value) {
                let message = format!("the signing key {} is given twice", quoted(name));
                self.report.error(name.span, message);
                continue;
            }
            keys.push((name.value.clone(), key.value.clone()));
        }
        keys
    }

    fn default_runtime(&mut self, top: &RawTop) -> Option<Name> {
        let default = top.default_runtime.as_ref()?;
        let name = self.name(default)?;
        let declared = self.runtime_section();
        let names = || declared.iter().map(|e| e.key.text.as_str());
        if names().all(|known| known != name.as_str()) && !declared.is_empty() {
            let message = format!("the runtime {} does not exist", quoted(default));
            self.report
                .error(default.span, message)
                .hint(suggest::hint(default, names()));
        }
        Some(name)
    }
}

fn spanned(key: &crate::yaml::Key) -> Text {
    Spanned {
        value: key.text.clone(),
        span: key.span,
    }
}

/// The names of `supported_targets`; empty for all.
fn targets(supported: &Spanned<TextOr<Vec<Text>>>, report: &mut Report<'_>) -> Vec<String> {
    match &supported.value {
        TextOr::Text(all) if all == "*" => Vec::new(),
        TextOr::Text(other) => {
            let message = format!("expected a list or `*`, found {}", quoted(other));
            report
                .error(supported.span, message)
                .hint(format!("write `[{other}]` for one target"));
            Vec::new()
        }
        TextOr::Other(list) if list.iter().any(|name| name.value == "*") => Vec::new(),
        TextOr::Other(list) => list.iter().map(|name| name.value.clone()).collect(),
    }
}

fn target(
    request: &Request<'_>,
    top: &RawTop,
    supported: &[String],
    report: &mut Report<'_>,
) -> Option<Name> {
    let Some(text) = request.target else {
        let hint = match supported {
            [] => "use `--target`, set AVOCADO_TARGET, or add `default_target:`".to_owned(),
            some => format!(
                "use `--target`, set AVOCADO_TARGET, or add `default_target:`; supported: {}",
                some.join(", ")
            ),
        };
        report.error(None, "no target is given").hint(hint);
        return None;
    };
    // The place of the default, where it is what was taken.
    let default = top.default_target.as_ref().filter(|d| d.value == text);
    let name: Name = match text.parse() {
        Ok(name) => name,
        Err(error) => {
            let message = format!("the target cannot be used: {error}");
            report.error(default.map(|d| d.span), message);
            return None;
        }
    };
    if !supported.is_empty() && !supported.iter().any(|s| s == text) {
        let place = top.supported_targets.as_ref().map(|s| s.span);
        report
            .error(
                place,
                format!(
                    "the target {} is not supported by the project",
                    quoted(text)
                ),
            )
            .hint(suggest::hint(text, supported.iter().map(String::as_str)));
        return None;
    }
    Some(name)
}

/// `src_dir`, which is relative to the directory of the file, or that directory.
fn source_dir(config: &Path, src_dir: Option<&Text>, report: &mut Report<'_>) -> Option<PathBuf> {
    let here = config.parent().unwrap_or(Path::new("/"));
    let Some(text) = src_dir else {
        return Some(here.to_owned());
    };
    // `absolute` also takes the `.` out, without following links.
    let dir = here.join(&text.value);
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    if dir.is_dir() {
        return Some(dir);
    }
    let message = format!("the source directory {} does not exist", quoted(text));
    report
        .error(text.span, message)
        .hint(format!("it is looked for at {}", dir.display()));
    None
}
