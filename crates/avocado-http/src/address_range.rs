use std::net::IpAddr;

/// The IP addresses that have the same first bits; of one address, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressRange {
    address: IpAddr,
    bits: u32,
}

impl AddressRange {
    /// That of an address, or of `ADDRESS/BITS`; none where the text is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address = parse(address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(AddressRange { address, bits })
    }

    /// Whether the host of a URL is such an address. A name is none: nothing is looked up.
    pub(crate) fn contains(self, host: &str) -> bool {
        // Of all bits or more, none is left.
        match (self.address, parse(host)) {
            (IpAddr::V4(a), Some(IpAddr::V4(b))) => {
                let differ = a.to_bits() ^ b.to_bits();
                differ.checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), Some(IpAddr::V6(b))) => {
                let differ = a.to_bits() ^ b.to_bits();
                differ.checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// An address, which in a URL stands in brackets where it has colons.
fn parse(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    inner.unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_in_it() {
        for (range, host, inside) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("192.168.0.0/16", "192.168.255.1", true),
            ("192.168.0.0/16", "192.169.0.1", false),
            ("192.168.7.7/16", "192.168.0.1", true),
            ("10.0.0.128/25", "10.0.0.127", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "[::1]", false),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("::1", "[::1]", true),
            ("[::1]", "[0:0::1]", true),
            ("fd00::/8", "[fdff::1]", true),
            ("fd00::/8", "[fe80::1]", false),
            ("::/0", "[2001:db8::1]", true),
            ("::/0", "192.0.2.1", false),
            ("10.0.0.0/8", "10.example", false),
            ("10.0.0.0/8", "", false),
        ] {
            let parsed = AddressRange::parse(range).unwrap();
            assert_eq!(parsed.contains(host), inside, "{range} {host}");
        }
        for text in [
            "",
            "/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/x",
            "10.0.0/8",
            "a/8",
            "*",
        ] {
            assert_eq!(AddressRange::parse(text), None, "{text}");
        }
    }
}
