//! Which program has a port, for the error that says so.

/// ` by <program> (process <id>)`, or nothing where that cannot be found out.
#[cfg(target_os = "linux")]
pub(crate) fn describe_user(port: u16) -> String {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| {
            let listening = table.lines().filter_map(|line| listener(line, port));
            listening.collect::<Vec<_>>()
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = |name: &std::ffi::OsStr| name.to_string_lossy().parse::<u32>().is_ok();
    for process in processes.filter(|process| numbered(&process.file_name())) {
        let descriptors = std::fs::read_dir(process.path().join("fd"));
        let mut descriptors = descriptors.into_iter().flatten().flatten();
        let has = descriptors.any(|descriptor| {
            let target = std::fs::read_link(descriptor.path());
            target.is_ok_and(|target| {
                inodes
                    .iter()
                    .any(|inode| target.as_os_str() == inode.as_str())
            })
        });
        if has {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let id = process.file_name();
            return format!(" by {} (process {})", name.trim(), id.display());
        }
    }
    String::new()
}

/// The inode of the socket in this line of the kernel's table, if it listens on `port`.
#[cfg(target_os = "linux")]
fn listener(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, found) = fields.get(1)?.rsplit_once(':')?;
    let listens = fields.get(3) == Some(&LISTEN);
    let same = u16::from_str_radix(found, 16) == Ok(port);
    (listens && same).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

/// Nothing: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn describe_user(_port: u16) -> String {
    String::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn we_have_our_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let by = describe_user(listener.local_addr().unwrap().port());
        let me = format!("(process {})", std::process::id());
        assert!(by.starts_with(" by ") && by.ends_with(&me), "{by}");
    }
}
