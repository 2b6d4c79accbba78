//! What an expression refers to. Nothing here resolves the text that it finds.

use super::context::InterpolationContext;
use crate::late::late_value;
use crate::suggest;
use crate::text::quoted;
use crate::yaml::Node;

/// Every `avocado.` expression, without the fields of extensions.
const AVOCADO: [&str; 7] = [
    "target",
    "target.board",
    "runtime",
    "distro.release",
    "distro.version",
    "distro.channel",
    "kernel.version",
];

/// What an expression stands for.
pub(super) enum Reference<'a> {
    /// Text of the file.
    Node(&'a Node),
    /// Text that is not from the file: a variable, or a name that was chosen.
    Outside(String),
    /// The board of this runtime; its name may hold expressions itself.
    BoardOf(Option<String>),
    /// Something that a task of the build finds out.
    Late,
    /// Something that the project does not state.
    Unstated,
    /// A variable that is not set.
    UnsetVariable(&'a str),
    /// Not an expression of ours.
    Unknown { hint: Option<String> },
    /// A path that leads nowhere.
    Broken {
        message: String,
        hint: Option<String>,
    },
}

impl<'a> From<Option<&'a Node>> for Reference<'a> {
    fn from(node: Option<&'a Node>) -> Self {
        node.map_or(Reference::Unstated, Reference::Node)
    }
}

pub(super) fn find<'a>(
    expr: &'a str,
    root: &'a Node,
    context: &InterpolationContext<'_>,
) -> Reference<'a> {
    if expr == "env." {
        let hint = "name a variable: `env.NAME`".to_owned();
        Reference::Unknown { hint: Some(hint) }
    } else if let Some(name) = expr.strip_prefix("env.") {
        match (context.env)(name) {
            Some(value) => Reference::Outside(value),
            None => Reference::UnsetVariable(name),
        }
    } else if let Some(path) = expr.strip_prefix("config.") {
        config(path, root)
    } else if let Some(path) = expr.strip_prefix("avocado.") {
        avocado(path, root, context)
    } else {
        let namespace = expr.split('.').next().unwrap_or_default();
        let hint = match suggest::nearest(namespace, ["env", "config", "avocado"]) {
            Some(near) => format!("did you mean `{near}.…`?"),
            None => "expressions start with `env.`, `config.` or `avocado.`".to_owned(),
        };
        Reference::Unknown { hint: Some(hint) }
    }
}

/// The board of a runtime, else of the project, else the target.
pub(super) fn board<'a>(
    runtime: Option<&str>,
    root: &'a Node,
    context: &InterpolationContext<'_>,
) -> Reference<'a> {
    let of_runtime = runtime.and_then(|runtime| {
        ["runtimes", "runtime"].iter().find_map(|section| {
            section_field(root, context, &[section, runtime], &["target_board"])
        })
    });
    match of_runtime.or_else(|| text_at(root, &["default_target_board"])) {
        Some(node) => Reference::Node(node),
        None => outside(context.target.map(str::to_owned)),
    }
}

/// The value of the file that an expression `config.…` stands for; `None` for every other one, and
/// where it leads nowhere.
pub(crate) fn value_of_config<'a>(expr: &str, root: &'a Node) -> Option<&'a Node> {
    match config(expr.strip_prefix("config.")?, root) {
        Reference::Node(node) => Some(node),
        _ => None,
    }
}

fn config<'a>(path: &str, root: &'a Node) -> Reference<'a> {
    let mut node = root;
    let mut walked = String::from("config");
    for key in path.split('.') {
        let Some(next) = node.get(key) else {
            let keys = node.entries().unwrap_or_default();
            let near = suggest::nearest(key, keys.iter().map(|e| e.key.text.as_str()));
            let expr = quoted(&format!("config.{path}"));
            let key = quoted(key);
            return Reference::Broken {
                message: format!("{expr} does not exist: there is no {key} in `{walked}`"),
                hint: near.map(|near| format!("did you mean `{walked}.{near}`?")),
            };
        };
        node = next;
        walked.push('.');
        walked.push_str(key);
    }
    if node.as_text().is_some() {
        return Reference::Node(node);
    }
    let (expr, what) = (quoted(&walked), node.describe());
    Reference::Broken {
        message: format!("{expr} is {what}; a template can only insert text"),
        hint: None,
    }
}

fn avocado<'a>(path: &str, root: &'a Node, context: &InterpolationContext<'_>) -> Reference<'a> {
    let distro = |field| section_field(root, context, &["distro"], &[field]);
    match path {
        "target" => outside(context.target.map(str::to_owned)),
        "target.board" => match context.variable("AVOCADO_TARGET_BOARD") {
            Some(board) => Reference::Outside(board),
            None => Reference::BoardOf(context.runtime(root)),
        },
        "runtime" => outside(context.runtime(root)),
        "distro.release" | "distro.version" => match context.variable("AVOCADO_DISTRO_RELEASE") {
            Some(release) => Reference::Outside(release),
            None => distro("release").or_else(|| distro("version")).into(),
        },
        "distro.channel" => match context.variable("AVOCADO_DISTRO_CHANNEL") {
            Some(channel) => Reference::Outside(channel),
            None => distro("channel").into(),
        },
        _ if late_value(&format!("avocado.{path}")).is_some() => Reference::Late,
        _ if path.starts_with("extensions.") => {
            let path: Vec<&str> = path.split('.').collect();
            let (section, field) = path.split_at(path.len().min(2));
            section_field(root, context, section, field).into()
        }
        _ => Reference::Unknown {
            hint: suggest::nearest(path, AVOCADO)
                .map(|near| format!("did you mean `avocado.{near}`?")),
        },
    }
}

fn outside<'a>(text: Option<String>) -> Reference<'a> {
    text.map_or(Reference::Unstated, Reference::Outside)
}

/// The field of a section for the current target, where it is text: the overrides are applied
/// only after the templates are resolved.
fn section_field<'a>(
    root: &'a Node,
    context: &InterpolationContext<'_>,
    section: &[&str],
    field: &[&str],
) -> Option<&'a Node> {
    let of_target = context.target.and_then(|target| {
        let over = format!("target-{target}");
        text_at(root, &[section, &[over.as_str()], field].concat())
    });
    of_target.or_else(|| text_at(root, &[section, field].concat()))
}

fn text_at<'a>(root: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter()
        .try_fold(root, |node, key| node.get(key))
        .filter(|node| node.as_text().is_some())
}
