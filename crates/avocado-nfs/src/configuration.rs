//! The configuration of NFS-Ganesha: ganesha-config(8), ganesha-core-config(8),
//! ganesha-export-config(8).

use std::fmt::Write as _;
use std::path::Path;

use crate::error::NfsError;
use crate::server::{NfsAccess, NfsClients, NfsServerOptions, hidden_root};

/// What the server is to read.
///
/// Exported is what is named, to who is let in, and each caller counts as the one whose the files are. The
/// root above the exports is the server's own and has nothing else in it. What changes is seen at
/// once, so nothing is remembered of attributes.
pub(crate) fn configuration(options: &NfsServerOptions) -> Result<String, NfsError> {
    let mut text = String::new();
    let recovery = quoted(&options.directory.join("recovery"))?;
    block(
        &mut text,
        "NFS_CORE_PARAM",
        &[
            ("NFS_Port", options.address.port().to_string()),
            ("Bind_addr", options.address.ip().to_string()),
            ("NFS_Protocols", "4".to_owned()),
            ("Enable_NLM", "false".to_owned()),
            ("Enable_RQUOTA", "false".to_owned()),
            ("mount_path_pseudo", "true".to_owned()),
        ],
        "",
    );
    block(
        &mut text,
        "NFSV4",
        &[
            // There is no state to claim again: a server that ended is not started again.
            ("Graceless", "true".to_owned()),
            ("Delegations", "false".to_owned()),
            ("Only_Numeric_Owners", "true".to_owned()),
            ("Minor_Versions", "1, 2".to_owned()),
            ("RecoveryBackend", "fs".to_owned()),
            ("RecoveryRoot", recovery),
        ],
        "",
    );
    // What it remembers of directories is wrong once a file has gone by another way than through it:
    // version 4.3 then lists nothing at all.
    block(&mut text, "MDCACHE", &[("Dir_Chunk", "0".to_owned())], "");
    let owner = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut numbers = options.first_number..;
    let mut number = || numbers.next().unwrap_or(u16::MAX);
    for export in &options.exports {
        let export = Export {
            number: number(),
            path: &export.path,
            pseudo: &Path::new("/").join(&export.name),
            access: export.access,
            caller: owner,
        };
        export.write(&mut text, options.clients)?;
    }
    if let NfsClients::One { .. } = options.clients {
        // In the place of the root that the server makes by itself, which lists all exports.
        let root = Export {
            number: number(),
            path: &hidden_root(&options.directory),
            pseudo: Path::new("/"),
            access: NfsAccess::Read,
            caller: (stranger(owner.0), NOBODY),
        };
        root.write(&mut text, options.clients)?;
    }
    Ok(text)
}

/// Who owns nothing, as most systems have it.
const NOBODY: u32 = 65534;

/// Anybody but the owner.
fn stranger(owner: u32) -> u32 {
    if owner == NOBODY { NOBODY - 1 } else { NOBODY }
}

/// One block of the configuration.
struct Export<'e> {
    number: u16,
    path: &'e Path,
    pseudo: &'e Path,
    access: NfsAccess,
    /// The user and the group as whom every caller counts.
    caller: (u32, u32),
}

impl Export<'_> {
    fn write(&self, text: &mut String, clients: NfsClients) -> Result<(), NfsError> {
        let access = match self.access {
            NfsAccess::Read => "RO",
            NfsAccess::Write => "RW",
        };
        // To all others than the named ones there is nothing.
        let (of_all, client, privileged) = match clients {
            NfsClients::Everyone => (access, String::new(), false),
            NfsClients::One {
                address,
                privileged,
            } => (
                "None",
                format!("    CLIENT {{ Clients = {address}; Access_Type = {access}; }}\n"),
                privileged,
            ),
        };
        let (user, group) = self.caller;
        block(
            text,
            "EXPORT",
            &[
                ("Export_Id", self.number.to_string()),
                ("Path", quoted(self.path)?),
                ("Pseudo", quoted(self.pseudo)?),
                ("Access_Type", of_all.to_owned()),
                ("Squash", "All_Squash".to_owned()),
                ("Anonymous_uid", user.to_string()),
                ("Anonymous_gid", group.to_string()),
                ("PrivilegedPort", privileged.to_string()),
                ("Protocols", "4".to_owned()),
                ("Transports", "TCP".to_owned()),
                ("SecType", "sys".to_owned()),
                ("Attr_Expiration_Time", "0".to_owned()),
            ],
            &format!("    FSAL {{ Name = VFS; }}\n{client}"),
        );
        Ok(())
    }
}

fn block(text: &mut String, name: &str, values: &[(&str, String)], more: &str) {
    // A `String` takes everything.
    let _ = writeln!(text, "{name} {{");
    for (key, value) in values {
        let _ = writeln!(text, "    {key} = {value};");
    }
    text.push_str(more);
    text.push_str("}\n");
}

/// A path between quotation marks. In there a backslash takes its meaning from the next character,
/// and a line has to end outside.
fn quoted(path: &Path) -> Result<String, NfsError> {
    let bad = || NfsError::Path {
        path: path.to_owned(),
    };
    let plain = path.to_str().ok_or_else(bad)?;
    if plain.contains(|c: char| c.is_control()) {
        return Err(bad());
    }
    let escaped = plain.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::server::NfsExport;

    fn of(directory: &str) -> Result<String, NfsError> {
        with(directory, NfsAccess::Read, NfsClients::Everyone)
    }

    fn with(directory: &str, access: NfsAccess, clients: NfsClients) -> Result<String, NfsError> {
        configuration(&NfsServerOptions {
            clients,
            program: "ganesha.nfsd".into(),
            address: "127.0.0.1:12049".parse().unwrap(),
            directory: directory.into(),
            first_number: 7,
            exports: vec![NfsExport {
                name: "my-app".parse().unwrap(),
                path: PathBuf::from(directory).join("my-app"),
                access,
            }],
        })
    }

    #[test]
    fn an_export_has_its_name_and_nothing_to_write() {
        let text = of("/work").unwrap();
        for line in [
            "    NFS_Port = 12049;",
            "    Bind_addr = 127.0.0.1;",
            "    RecoveryRoot = \"/work/recovery\";",
            "    Export_Id = 7;",
            "    Path = \"/work/my-app\";",
            "    Pseudo = \"/my-app\";",
            "    Access_Type = RO;",
            "    Squash = All_Squash;",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    /// A part of what an edit takes to get to a device.
    #[test]
    fn nothing_is_remembered_of_what_may_change() {
        let text = of("/work").unwrap();
        for line in [
            "    Attr_Expiration_Time = 0;",
            "    Dir_Chunk = 0;",
            "    Delegations = false;",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn one_client_is_let_in_and_nobody_else() {
        for (address, privileged) in [("10.0.0.2", true), ("fd00::2", false)] {
            let clients = NfsClients::One {
                address: address.parse().unwrap(),
                privileged,
            };
            let text = with("/work", NfsAccess::Write, clients).unwrap();
            for line in [
                "    Access_Type = None;",
                "    Squash = All_Squash;",
                &format!("    PrivilegedPort = {privileged};"),
                &format!("    CLIENT {{ Clients = {address}; Access_Type = RW; }}"),
            ] {
                assert!(text.lines().any(|l| l == line), "{line}\n{text}");
            }
        }
    }

    #[test]
    fn what_one_client_gets_is_not_listed() {
        let everyone = of("/work").unwrap();
        assert_eq!(everyone.matches("EXPORT {").count(), 1);
        let clients = NfsClients::One {
            address: "127.0.0.1".parse().unwrap(),
            privileged: false,
        };
        let text = with("/work", NfsAccess::Write, clients).unwrap();
        let root = text.split("EXPORT {").nth(2).unwrap();
        for line in [
            "Export_Id = 8;",
            "Path = \"/work/root\";",
            "Pseudo = \"/\";",
            "Anonymous_uid = 65534;",
            "CLIENT { Clients = 127.0.0.1; Access_Type = RO; }",
        ] {
            assert!(root.contains(line), "{line}\n{text}");
        }
        assert_ne!(stranger(NOBODY), NOBODY);
    }

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        let text = of("/a \"; } EXPORT { c\\d #e '$%é").unwrap();
        let line = r#"    Path = "/a \"; } EXPORT { c\\d #e '$%é/my-app";"#;
        assert!(text.lines().any(|l| l == line), "{text}");
        assert!(matches!(of("/a\nb"), Err(NfsError::Path { .. })));
        let path = Path::new(OsStr::from_bytes(b"/\xff"));
        assert!(matches!(quoted(path), Err(NfsError::Path { .. })));
    }
}
