//! URLs whose answers anybody on the way could replace.

use std::net::IpAddr;

use crate::redirect;

/// Whether what `url` answers can be read and replaced on its way: it is http, and its host is not
/// this machine.
pub fn crosses_network_in_clear(url: &str) -> bool {
    redirect::origin(url).is_some_and(|origin| origin.is_http() && !is_this_machine(origin.host()))
}

/// Whether a host, as a URL has it, is a name or an address of the loopback interface, whatever a
/// resolver says.
pub fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_to_another_machine_is_in_the_clear() {
        for (url, clear) in [
            ("http://feed.example/x", true),
            ("HTTP://feed.example", true),
            ("http://10.0.0.1:8080", true),
            ("http://[fd00::1]/", true),
            ("http://localhost.example/", true),
            ("http://127.0.0.1.example/", true),
            ("http://127.0.0.1@feed.example/", true),
            ("https://feed.example/x", false),
            ("http://localhost:8080/x", false),
            ("http://LocalHost/x", false),
            ("http://127.0.0.1:8080", false),
            ("http://127.9.9.9/", false),
            ("http://[::1]:80/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("file:///srv/feed", false),
            ("no url", false),
        ] {
            assert_eq!(crosses_network_in_clear(url), clear, "{url}");
        }
    }
}
