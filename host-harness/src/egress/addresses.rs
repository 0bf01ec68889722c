//! Which network addresses egress may connect to.
//!
//! What: only addresses of the public internet. Refused are this host, private and shared networks, link-local ones
//! (where clouds keep their metadata services), multicast, documentation, benchmarking and reserved ranges, and every
//! IPv6 form that carries an IPv4 address inside (mapped, compatible, NAT64, 6to4, Teredo), because what such an
//! address finally reaches is decided by somebody else.
//! Why: a name under somebody else's control can point anywhere; without this check a connector could reach the
//! network that the host stands in.
//! Not guaranteed: that a public address belongs to who the name says; that is what TLS proves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused, or nothing when it may be connected to.
#[must_use]
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

/// One refused IPv4 range: network, length of the prefix, what it is.
type RangeV4 = (Ipv4Addr, u32, &'static str);

/// From the IANA IPv4 special-purpose address registry, and multicast and reserved space.
const REFUSED_V4: [RangeV4; 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private network"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared address space"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local or cloud metadata"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private network"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 31, 196, 0), 24, "AS112 service"),
    (Ipv4Addr::new(192, 52, 193, 0), 24, "multicast relay"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private network"),
    (Ipv4Addr::new(192, 175, 48, 0), 24, "AS112 service"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    // Multicast 224/4, reserved 240/4 and broadcast in one.
    (Ipv4Addr::new(224, 0, 0, 0), 3, "multicast or reserved"),
];

/// Platform services that live on addresses which are otherwise public: Azure's WireServer.
const PLATFORM_SERVICES_V4: [Ipv4Addr; 1] = [Ipv4Addr::new(168, 63, 129, 16)];

/// See [`refusal`].
fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    if PLATFORM_SERVICES_V4.contains(&address) {
        return Some("cloud metadata");
    }
    let bits = address.to_bits();
    REFUSED_V4
        .iter()
        .find(|(network, length, _)| (bits ^ network.to_bits()).leading_zeros() >= *length)
        .map(|(_, _, what)| *what)
}

/// One refused IPv6 range: network, length of the prefix, what it is.
type RangeV6 = (Ipv6Addr, u32, &'static str);

/// Refused ranges within global unicast space, `2000::/3`. All else outside of that space is refused anyway.
const REFUSED_V6: [RangeV6; 6] = [
    // 2001::/23 holds Teredo, benchmarking, ORCHID and other protocol assignments.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignments or Teredo"),
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (Ipv6Addr::new(0x2620, 0x004f, 0x8000, 0, 0, 0, 0, 0), 48, "AS112 service"),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, "retired test network"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
];

/// Names for refused space outside of `2000::/3`; what is in none of these is called reserved.
const NAMED_V6: [RangeV6; 8] = [
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "IPv4-mapped"),
    (Ipv6Addr::new(0x0064, 0xff9b, 0, 0, 0, 0, 0, 0), 32, "NAT64"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private network"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// See [`refusal`].
fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let within = |(network, length, _): &&RangeV6| (bits ^ network.to_bits()).leading_zeros() >= *length;
    let global_unicast = bits >> 125 == 0b001;
    if global_unicast {
        return REFUSED_V6.iter().find(within).map(|(_, _, what)| *what);
    }
    Some(NAMED_V6.iter().find(within).map_or("reserved", |(_, _, what)| *what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_may_be_connected_to() {
        let table: &[(&str, Option<&str>)] = &[
            ("1.1.1.1", None),
            ("9.255.255.255", None),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("128.0.0.0", None),
            ("169.253.255.255", None),
            ("172.15.255.255", None),
            ("172.32.0.0", None),
            ("192.167.255.255", None),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.20.0.0", None),
            ("223.255.255.255", None),
            ("0.0.0.0", Some("this network")),
            ("0.1.2.3", Some("this network")),
            ("10.0.0.1", Some("private network")),
            ("10.255.255.255", Some("private network")),
            ("100.64.0.0", Some("shared address space")),
            ("100.100.100.200", Some("shared address space")),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.254", Some("loopback")),
            ("168.63.129.16", Some("cloud metadata")),
            ("169.254.169.254", Some("link-local or cloud metadata")),
            ("172.16.0.0", Some("private network")),
            ("172.31.255.255", Some("private network")),
            ("192.0.0.192", Some("protocol assignments")),
            ("192.0.2.1", Some("documentation")),
            ("192.88.99.1", Some("6to4 relay")),
            ("192.168.255.255", Some("private network")),
            ("198.18.0.0", Some("benchmarking")),
            ("198.19.255.255", Some("benchmarking")),
            ("198.51.100.7", Some("documentation")),
            ("203.0.113.7", Some("documentation")),
            ("224.0.0.1", Some("multicast or reserved")),
            ("239.255.255.255", Some("multicast or reserved")),
            ("240.0.0.1", Some("multicast or reserved")),
            ("255.255.255.255", Some("multicast or reserved")),
            ("2606:4700:4700::1111", None),
            ("2a00:1450:4001:81b::200e", None),
            ("2001:4860:4860::8888", None),
            ("3ffd:ffff::1", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::127.0.0.1", Some("reserved")),
            ("::ffff:127.0.0.1", Some("IPv4-mapped")),
            ("::ffff:1.1.1.1", Some("IPv4-mapped")),
            ("::ffff:0:1.1.1.1", Some("reserved")),
            ("64:ff9b::a9fe:a9fe", Some("NAT64")),
            ("64:ff9b:1::1", Some("NAT64")),
            ("100::1", Some("reserved")),
            ("2001::1", Some("protocol assignments or Teredo")),
            ("2001:1ff:ffff::1", Some("protocol assignments or Teredo")),
            ("2001:db8::1", Some("documentation")),
            ("2002:7f00:1::", Some("6to4")),
            ("3fff::1", Some("documentation")),
            ("4000::1", Some("reserved")),
            ("5f00::1", Some("reserved")),
            ("fc00::1", Some("private network")),
            ("fd00:ec2::254", Some("private network")),
            ("fe80::1", Some("link-local")),
            ("febf::1", Some("link-local")),
            ("fec0::1", Some("site-local")),
            ("ff02::1", Some("multicast")),
        ];
        for (text, expected) in table {
            assert_eq!(refusal(text.parse().unwrap()), *expected, "{text}");
        }
    }
}
