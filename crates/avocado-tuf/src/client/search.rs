use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::{RefreshedMetadata, TufClient, TufError};
use crate::digests::Digests;
use crate::metadata::{DelegatedRole, KeySet, RoleAuthority, TargetsMetadata};
use crate::names::is_target_path;

/// What trusted metadata says about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetInfo {
    /// Its name: a relative path of plain segments.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its digests.
    pub digests: Digests,
}

impl TargetInfo {
    /// Whether the file at `path` has the length and the digests of the target. Reads all of it.
    pub fn describes(&self, path: &Path) -> io::Result<bool> {
        let file = File::open(path)?;
        if file.metadata()?.len() != self.length {
            return Ok(false);
        }
        let (matches, length) = self.digests.match_reader(file)?;
        Ok(matches && length == self.length)
    }
}

/// A role that is still to be visited, with the keys of the role that delegates to it.
struct PendingRole {
    role: DelegatedRole,
    keys: Rc<KeySet>,
}

impl TufClient {
    /// What trusted metadata says about the target `name`; none where no role that may speak of
    /// it lists it. Refreshes first if that has not been done.
    pub fn target(&mut self, name: &str) -> Result<Option<TargetInfo>, TufError> {
        if !is_target_path(name) {
            return Err(TufError::TargetName(name.chars().take(200).collect()));
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => self.update()?,
        };
        let found = self.search(name, &current);
        self.current = Some(current);
        found
    }

    /// Every target that [`TufClient::target`] finds, by name. Refreshes first if that has not been
    /// done. It visits all roles, which a device never does.
    ///
    /// # Errors
    /// As [`TufClient::target`]; [`TufError::TooManyRoles`] names no target then.
    pub fn targets(&mut self) -> Result<Vec<TargetInfo>, TufError> {
        let current = match self.current.take() {
            Some(current) => current,
            None => self.update()?,
        };
        let found = self.all_names(&current).and_then(|names| {
            let targets = names.iter().map(|name| self.search(name, &current));
            targets.collect::<Result<Vec<_>, _>>()
        });
        self.current = Some(current);
        Ok(found?.into_iter().flatten().collect())
    }

    /// The names that any role lists, whether it may speak of them or not.
    fn all_names(&self, current: &RefreshedMetadata) -> Result<BTreeSet<String>, TufError> {
        let mut names: BTreeSet<String> = current.targets.targets.keys().cloned().collect();
        let mut pending = every_role(&current.targets);
        let mut visited = BTreeSet::new();
        while let Some(PendingRole { role, keys }) = pending.pop() {
            if !visited.insert(role.name.clone()) {
                continue;
            }
            if visited.len() > self.options.limits.delegations {
                return Err(TufError::TooManyRoles {
                    target: "*".to_owned(),
                    visited: visited.len() - 1,
                });
            }
            let authority = RoleAuthority {
                keys: &keys,
                role: &role.keys,
            };
            let targets = self.role(&role.name, &current.snapshot, &authority)?;
            names.extend(targets.targets.keys().cloned());
            pending.extend(every_role(&targets));
        }
        // What is no name cannot be asked for.
        names.retain(|name| is_target_path(name));
        Ok(names)
    }

    /// Visits the roles that may speak of `name` depth-first, in the order in which they are
    /// delegated to; a terminating delegation drops everything that would come after it.
    fn search(
        &self,
        name: &str,
        current: &RefreshedMetadata,
    ) -> Result<Option<TargetInfo>, TufError> {
        let mut pending = Vec::new();
        let mut visited = BTreeSet::new();
        if let Some(found) = visit(&current.targets, name, &mut pending) {
            return Ok(Some(found));
        }
        while let Some(PendingRole { role, keys }) = pending.pop() {
            if !visited.insert(role.name.clone()) {
                continue;
            }
            if visited.len() > self.options.limits.delegations {
                return Err(TufError::TooManyRoles {
                    target: name.to_owned(),
                    visited: visited.len() - 1,
                });
            }
            let authority = RoleAuthority {
                keys: &keys,
                role: &role.keys,
            };
            let targets = self.role(&role.name, &current.snapshot, &authority)?;
            if let Some(found) = visit(&targets, name, &mut pending) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The roles that these targets delegate to, whatever they may speak of.
fn every_role(targets: &TargetsMetadata) -> Vec<PendingRole> {
    let Some(delegations) = &targets.delegations else {
        return Vec::new();
    };
    let keys = Rc::new(delegations.keys.clone());
    let roles = delegations.roles.iter().map(|role| PendingRole {
        role: role.clone(),
        keys: Rc::clone(&keys),
    });
    roles.collect()
}

/// The target, if these targets list it; otherwise adds the roles to ask next to `pending`.
fn visit(
    targets: &TargetsMetadata,
    name: &str,
    pending: &mut Vec<PendingRole>,
) -> Option<TargetInfo> {
    if let Some(file) = targets.targets.get(name) {
        return Some(TargetInfo {
            name: name.to_owned(),
            length: file.length,
            digests: file.hashes.clone(),
        });
    }
    let delegations = targets.delegations.as_ref()?;
    let keys = Rc::new(delegations.keys.clone());
    let mut children = Vec::new();
    for role in delegations.roles.iter().filter(|role| role.covers(name)) {
        children.push(PendingRole {
            role: role.clone(),
            keys: Rc::clone(&keys),
        });
        if role.terminating {
            pending.clear();
            break;
        }
    }
    pending.extend(children.into_iter().rev());
    None
}
