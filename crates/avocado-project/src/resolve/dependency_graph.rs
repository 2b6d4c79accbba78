//! The extensions that need one another: what is wrong between them, and what a runtime has
//! because one of its extensions needs it.
//!
//! Nothing here recurses: a file may have a chain of as many extensions as it has lines.

use std::collections::{HashMap, HashSet, VecDeque};

use avocado_manifest::Name;

use crate::model::ExtensionInclusion;
use crate::source::Span;
use crate::suggest;
use crate::text::quoted;

use super::context::ResolveContext;
use super::extensions::Extensions;

/// No more names than these are shown of those that need one another in a circle.
const MOST_NAMES: usize = 8;

/// The extensions that are here, by their number, and what each needs of them.
pub(super) struct DependencyGraph {
    names: Vec<Name>,
    numbers: HashMap<Name, usize>,
    needs: Vec<Vec<GraphEdge>>,
}

/// That an extension needs another one.
#[derive(Clone)]
struct GraphEdge {
    name: Name,
    /// Where that is stated.
    span: Span,
}

/// The graph of a project's extensions. What is wrong with it is reported: one that does not exist,
/// or is there in a version that will not do, and those that need themselves.
pub(super) fn graph(cx: &mut ResolveContext<'_>, extensions: &Extensions) -> DependencyGraph {
    let entries = &extensions.entries;
    let names: Vec<Name> = entries.iter().map(|e| e.name.clone()).collect();
    let numbered = names.iter().cloned().enumerate();
    let numbers: HashMap<Name, usize> = numbered.map(|(at, name)| (name, at)).collect();
    let declared: HashSet<&str> = extensions.declared.iter().map(String::as_str).collect();
    let mut needs = Vec::new();
    for (needy, stated) in names.iter().zip(&extensions.dependencies) {
        let mut edges: Vec<GraphEdge> = Vec::new();
        for dependency in stated {
            let name = &dependency.name;
            if !declared.contains(name.as_str()) {
                let message = format!(
                    "the extension {}, which {} needs, does not exist",
                    quoted(name.as_str()),
                    quoted(needy.as_str())
                );
                let declared = extensions.declared.iter().map(String::as_str);
                let near = suggest::nearest(name.as_str(), declared);
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "add it below `extensions:`, with its `source` where it comes from \
                             elsewhere"
                        .to_owned(),
                };
                cx.report.error(dependency.span, message).hint(hint);
                continue;
            }
            let number = numbers.get(name);
            let version = number.and_then(|at| entries.get(*at)?.version.known());
            if let (Some(wanted), Some(version)) = (&dependency.version, version)
                && !wanted.value.matches_extension(version.as_str())
            {
                let message = format!(
                    "the extension {} has the version {version}, and {} needs {}",
                    quoted(name.as_str()),
                    quoted(needy.as_str()),
                    quoted(&wanted.value.to_string())
                );
                cx.report.error(wanted.span, message);
            }
            edges.push(GraphEdge {
                name: name.clone(),
                span: dependency.span,
            });
        }
        needs.push(edges);
    }
    let graph = DependencyGraph {
        names,
        numbers,
        needs,
    };
    graph.report_circles(cx);
    graph
}

impl DependencyGraph {
    fn needs_of(&self, name: &Name) -> &[GraphEdge] {
        let number = self.numbers.get(name);
        let needs = number.and_then(|at| self.needs.get(*at));
        needs.map_or(&[], Vec::as_slice)
    }

    /// Takes away what needs nothing that is left, until all that is left is in a circle or leads
    /// to one.
    fn report_circles(&self, cx: &mut ResolveContext<'_>) {
        let mut left: HashSet<&Name> = self.names.iter().collect();
        let mut needed_by: HashMap<&Name, Vec<&Name>> = HashMap::new();
        let mut open: HashMap<&Name, usize> = HashMap::new();
        for name in &self.names {
            let needs = self.needs_of(name).iter();
            let needs = needs.filter(|edge| left.contains(&edge.name));
            let mut count = 0;
            for edge in needs {
                needed_by.entry(&edge.name).or_default().push(name);
                count += 1;
            }
            open.insert(name, count);
        }
        let is_free = |name: &&Name| open.get(name) == Some(&0);
        let mut free: VecDeque<&Name> = self.names.iter().filter(is_free).collect();
        for name in &self.names {
            while let Some(gone) = free.pop_front() {
                if !left.remove(gone) {
                    continue;
                }
                for needy in needed_by.get(gone).into_iter().flatten() {
                    let count = open.entry(needy).or_default();
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        free.push_back(needy);
                    }
                }
            }
            if !left.contains(name) {
                continue;
            }
            // Everything that is left needs something that is left: the way ends where it was.
            let mut way: Vec<&Name> = vec![name];
            let mut places: HashMap<&Name, usize> = HashMap::from([(name, 0)]);
            let circle = loop {
                let Some(last) = way.last() else { break None };
                let needs = self.needs_of(last).iter();
                let mut needs = needs.filter(|edge| left.contains(&edge.name));
                let Some(next) = needs.next() else { break None };
                match places.get(&next.name) {
                    Some(at) => break Some((way.split_off(*at), next.span)),
                    None => {
                        places.insert(&next.name, way.len());
                        way.push(&next.name);
                    }
                }
            };
            let Some((circle, span)) = circle else {
                continue;
            };
            let mut shown: Vec<&str> = circle.iter().map(|name| name.as_str()).collect();
            if shown.len() > MOST_NAMES {
                shown.truncate(MOST_NAMES);
                shown.push("…");
            }
            shown.extend(circle.first().map(|name| name.as_str()));
            let message = format!(
                "extensions need one another in a circle: {}",
                shown.join(" → ")
            );
            cx.report
                .error(span, message)
                .hint("take one of these needs away");
            free.extend(circle);
        }
    }

    /// The extensions of a runtime: those that are stated, in their order, and after them what they
    /// need, each after everything that needs it. So what is needed never hides what needs it, and
    /// what is stated wins over what is not. `spans` are the places of `stated`.
    pub(super) fn complete(
        &self,
        cx: &mut ResolveContext<'_>,
        stated: Vec<ExtensionInclusion>,
        spans: &[Span],
    ) -> Vec<ExtensionInclusion> {
        let listed: HashMap<&Name, bool> = stated.iter().map(|i| (&i.name, i.enabled)).collect();
        let enabled = stated.iter().filter(|i| i.enabled).map(|i| &i.name);
        let wanted = self.reached(enabled, |name| listed.get(name) != Some(&false));
        for (inclusion, span) in stated.iter().zip(spans) {
            let Some(needy) = wanted
                .by
                .get(&inclusion.name)
                .filter(|_| !inclusion.enabled)
            else {
                continue;
            };
            let message = format!(
                "the extension {} is not enabled, and {} needs it",
                quoted(inclusion.name.as_str()),
                quoted(needy.as_str())
            );
            cx.report.warning(*span, message);
        }
        let all = self.reached(stated.iter().map(|i| &i.name), |_| true);
        let new = all.order.iter().copied();
        let new: Vec<&Name> = new.filter(|name| !listed.contains_key(name)).collect();
        let sorted = self.needy_first(&new);
        let implied = sorted.into_iter().map(|name| ExtensionInclusion {
            name: name.clone(),
            enabled: wanted.by.contains_key(name),
            needed_by: all.by.get(name).map(|needy| (*needy).clone()),
        });
        let implied: Vec<ExtensionInclusion> = implied.collect();
        stated.into_iter().chain(implied).collect()
    }

    /// What is needed by these, by what they need, and so on, where `passes` says so of a name.
    fn reached<'a>(
        &'a self,
        from: impl Iterator<Item = &'a Name>,
        passes: impl Fn(&Name) -> bool,
    ) -> ReachedExtensions<'a> {
        let mut reached = ReachedExtensions::default();
        let mut queue: VecDeque<&Name> = from.collect();
        while let Some(name) = queue.pop_front() {
            for edge in self.needs_of(name) {
                let needed = &edge.name;
                if reached.by.contains_key(needed) {
                    continue;
                }
                reached.by.insert(needed, name);
                reached.order.push(needed);
                if passes(needed) {
                    queue.push_back(needed);
                }
            }
        }
        reached
    }

    /// The same names, each after all those among them that need it.
    fn needy_first<'a>(&self, names: &[&'a Name]) -> Vec<&'a Name> {
        let among: HashMap<&Name, &'a Name> = names.iter().map(|name| (*name, *name)).collect();
        let mut needed: HashMap<&Name, usize> = HashMap::new();
        for name in names {
            for edge in self.needs_of(name) {
                if among.contains_key(&edge.name) {
                    *needed.entry(&edge.name).or_default() += 1;
                }
            }
        }
        let first = names.iter().copied();
        let mut queue: VecDeque<&'a Name> =
            first.filter(|name| !needed.contains_key(*name)).collect();
        let mut sorted: Vec<&'a Name> = Vec::new();
        while let Some(name) = queue.pop_front() {
            sorted.push(name);
            for edge in self.needs_of(name) {
                let (Some(other), Some(count)) =
                    (among.get(&edge.name), needed.get_mut(&edge.name))
                else {
                    continue;
                };
                *count -= 1;
                if *count == 0 {
                    queue.push_back(other);
                }
            }
        }
        // A circle is an error; all that is asked here is not to lose one.
        let known: HashSet<&Name> = sorted.iter().copied().collect();
        let rest = names.iter().copied().filter(|name| !known.contains(*name));
        let rest: Vec<&Name> = rest.collect();
        sorted.extend(rest);
        sorted
    }
}

/// What was found on the way from some extensions to all that they need.
#[derive(Default)]
struct ReachedExtensions<'a> {
    /// In the order in which it was found.
    order: Vec<&'a Name>,
    /// Which of those on the way needs it.
    by: HashMap<&'a Name, &'a Name>,
}
