//! Removing what earlier builds made of packages that the project does not name any more, where no
//! step is left that would: the last package of a tree, and the last one that was compiled.

use std::collections::BTreeMap;

use avocado_events::{Event, Sink};
use avocado_manifest::Name;

use super::{COMPILED_LIST, PackageTree, publish};
use crate::build_context::BuildContext;
use crate::error::BuildError;
use crate::trees;

/// What may be left, in the order in which it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uninstall {
    /// The packages of a tree that has none now.
    Packages(PackageTree),
    /// What was compiled for a runtime, for which nothing is now.
    Compiled(Name),
}

impl Uninstall {
    /// Removes what is left, in the lock first: where that must not change, nothing does.
    pub(crate) fn work(
        &self,
        context: &BuildContext<'_>,
        sink: &dyn Sink,
    ) -> Result<(), BuildError> {
        match self {
            Uninstall::Packages(tree) => packages(context, tree, sink),
            Uninstall::Compiled(runtime) => compiled(context, runtime),
        }
    }
}

fn packages(
    context: &BuildContext<'_>,
    tree: &PackageTree,
    sink: &dyn Sink,
) -> Result<(), BuildError> {
    let target = &context.project.target;
    let sysroot = tree.sysroot(&context.layout);
    let mut lock_file = context.lock_file();
    let locked = lock_file.target(target);
    let locked = locked.and_then(|lock| lock.packages(&sysroot));
    if let Some(locked) = locked {
        let names: Vec<&str> = locked.keys().map(String::as_str).collect();
        let text = format!(
            "no packages are named any more; removed: {}",
            names.join(", ")
        );
        let lock = lock_file.target_mut(target);
        lock.set_packages(&sysroot, BTreeMap::new());
        lock.set_kernel_version(&sysroot, None);
        lock_file.save()?;
        sink.emit(Event {
            stage: tree.label(),
            ..Event::info(text)
        });
    }
    drop(lock_file);
    let root = tree.root(&context.layout);
    if root.symlink_metadata().is_ok() {
        if let PackageTree::Runtime(name) = tree {
            publish::clear(&context.layout.runtime(name))?;
        }
        // Last: while it is there, there is something to do.
        trees::clear(&root)?;
    }
    Ok(())
}

fn compiled(context: &BuildContext<'_>, runtime: &Name) -> Result<(), BuildError> {
    let place = context.layout.runtime_compiled(runtime);
    let directory = context.layout.runtime(runtime);
    let list = directory.join(COMPILED_LIST);
    if place.symlink_metadata().is_ok() || list.symlink_metadata().is_ok() {
        // The packages too, over which it lay: their install, which finds its list gone, puts them
        // there again.
        publish::clear(&directory)?;
        trees::clear(&place)?;
    }
    Ok(())
}
