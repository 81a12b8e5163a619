//! The firewall of a host's instances, as one script for `nft -f -`: pure.
//!
//! The script replaces a table of the host's own in one transaction: there is no moment without
//! rules. The table is of the family `inet`, and every packet of an instance is routed, never
//! bridged: filtering between ports of a bridge needs either the kernel's connection tracking for
//! bridges, which many kernels are built without, or `br_netfilter`, which changes how all bridges
//! of the machine behave. With routing every kernel that has nftables will do, and instances share
//! no wire on which one could answer for another.
//!
//! What holds for an instance is what holds in EC2 ("Security group rules", Amazon VPC user guide;
//! "Amazon EC2 security group connection tracking", EC2 user guide): what no rule allows is denied,
//! both ways; answers to what was allowed pass; only its own addresses leave it. A peer that is a security group stands for the addresses
//! of those of its members that run on this host: others are not known here.

use super::port::{Port, is_group};
use eventplane_domain::FirewallRule;
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The firewall of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// What `nft -f -` reads.
    pub script: String,
    /// Rules that allow nothing, for the host does not understand them.
    pub not_understood: Vec<FirewallRule>,
}

/// The firewall of these ports, each with the interface that the host has of it. `mark` tells the
/// hosts of one machine apart: this host's interfaces, and no others, begin with `ep` and the mark.
#[must_use]
pub fn firewall(mark: &str, ports: &[(String, &Port)]) -> Firewall {
    let table = format!("inet eventplane_{mark}");
    // The first line makes the table where there is none, so that the second has one to delete.
    let mut script = format!("table {table}\ndelete table {table}\n");
    let mut not_understood = Vec::new();
    if !ports.is_empty() {
        let sets = sets(ports);
        let rules = rules(ports, &mut not_understood);
        let hooks = hooks(mark, ports);
        script += &format!("table {table} {{\n{sets}{rules}{hooks}}}\n");
    }
    Firewall { script, not_understood }
}

/// The interfaces, what may leave them, and who is in which group.
fn sets(ports: &[(String, &Port)]) -> String {
    let names = list(ports, |interface, _| format!("\"{interface}\""));
    let own =
        list(ports, |interface, port| format!("\"{interface}\" . {} . {}", port.mac, port.address));
    let mut sets = format!(
        "\tset ports {{ type ifname; elements = {{ {names} }} }}\n\
         \tset own {{ type ifname . ether_addr . ipv4_addr; elements = {{ {own} }} }}\n"
    );
    for (group, members) in members(ports) {
        let members: Vec<String> = members.iter().map(Ipv4Addr::to_string).collect();
        let elements = match members.as_slice() {
            [] => String::new(),
            members => format!(" elements = {{ {} }}", members.join(", ")),
        };
        sets += &format!("\tset {group} {{ type ipv4_addr;{elements} }}\n");
    }
    sets
}

/// Per interface what may go from its instance, and what to it.
fn rules(ports: &[(String, &Port)], not_understood: &mut Vec<FirewallRule>) -> String {
    let mut chains = String::new();
    for (interface, port) in ports {
        for (direction, ingress) in [("from", false), ("to", true)] {
            chains += &format!("\tchain {direction}-{interface} {{\n");
            for rule in port.rules.iter().filter(|rule| rule.ingress == ingress) {
                match allowance(rule) {
                    Some(allowance) => chains += &format!("\t\t{allowance} return\n"),
                    None => not_understood.push(rule.clone()),
                }
            }
            chains += "\t\tdrop\n\t}\n";
        }
    }
    chains
}

/// Where the kernel comes by. What comes from an instance's interface without the instance's
/// addresses goes no further; what goes to an interface that the host knows no port of does not
/// arrive. The host is nobody's member: rules on blocks of addresses let it in, and it takes nothing
/// from instances but answers.
fn hooks(mark: &str, ports: &[(String, &Port)]) -> String {
    let ours = format!("\"ep{mark}*\"");
    let from = list(ports, |interface, _| format!("\"{interface}\" : jump from-{interface}"));
    let to = list(ports, |interface, _| format!("\"{interface}\" : jump to-{interface}"));
    format!(
        "\tchain own-addresses {{
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifname . ether saddr . ip saddr @own accept
\t\tiifname {ours} drop
\t}}
\tchain forward {{
\t\ttype filter hook forward priority filter; policy accept;
\t\tct state established,related accept
\t\tiifname vmap {{ {from} }}
\t\toifname vmap {{ {to} }}
\t\toifname {ours} oifname != @ports drop
\t}}
\tchain host-to-instances {{
\t\ttype filter hook output priority filter; policy accept;
\t\tct state established,related accept
\t\toifname vmap {{ {to} }}
\t\toifname {ours} oifname != @ports drop
\t}}
\tchain instances-to-host {{
\t\ttype filter hook input priority filter; policy accept;
\t\tiifname {ours} ct state established,related accept
\t\tiifname {ours} drop
\t}}
"
    )
}

/// The elements of a set, one for each port.
fn list(ports: &[(String, &Port)], element: impl Fn(&str, &Port) -> String) -> String {
    let elements = ports.iter().map(|(interface, port)| element(interface, port));
    elements.collect::<Vec<_>>().join(", ")
}

/// The addresses of each group that a rule names.
fn members(ports: &[(String, &Port)]) -> BTreeMap<String, Vec<Ipv4Addr>> {
    let rules = ports.iter().flat_map(|(_, port)| &port.rules);
    let named: BTreeSet<&String> =
        rules.map(|rule| &rule.peer).filter(|peer| is_group(peer)).collect();
    let of = |group: &String| {
        let members = ports.iter().filter(|(_, port)| port.groups.contains(group));
        members.map(|(_, port)| port.address).collect()
    };
    named.into_iter().map(|group| (group.clone(), of(group))).collect()
}

/// What a rule lets pass, if it is a rule.
fn allowance(rule: &FirewallRule) -> Option<String> {
    let end = if rule.ingress { "saddr" } else { "daddr" };
    let peer = if is_group(&rule.peer) {
        format!("ip {end} @{}", rule.peer)
    } else {
        let block: Ipv4Net = rule.peer.parse().ok()?;
        format!("ip {end} {}", block.trunc())
    };
    let what = match (rule.protocol.as_str(), rule.ports) {
        ("-1", None) => String::new(),
        ("icmp", None) => " ip protocol icmp".to_owned(),
        (protocol @ ("tcp" | "udp"), Some((from, to))) if from < to => {
            format!(" {protocol} dport {from}-{to}")
        }
        (protocol @ ("tcp" | "udp"), Some((from, to))) if from == to => {
            format!(" {protocol} dport {from}")
        }
        _ => return None,
    };
    Some(peer + &what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_domain::{InstanceId, Millis};

    fn rule(ingress: bool, protocol: &str, ports: Option<(u16, u16)>, peer: &str) -> FirewallRule {
        FirewallRule { ingress, protocol: protocol.to_owned(), ports, peer: peer.to_owned() }
    }

    fn port(n: u8, groups: &[&str], rules: Vec<FirewallRule>) -> Port {
        Port {
            instance: InstanceId::new(Millis(1), u64::from(n)),
            address: Ipv4Addr::new(172, 31, 0, n),
            prefix: 20,
            gateway: Ipv4Addr::new(172, 31, 0, 1),
            mac: format!("02:00:00:00:00:{n:02x}"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            rules,
        }
    }

    #[test]
    fn every_rule_allows_what_it_says() {
        let cases = [
            (rule(true, "tcp", Some((80, 80)), "0.0.0.0/0"), "ip saddr 0.0.0.0/0 tcp dport 80"),
            (
                rule(true, "udp", Some((1, 65535)), "10.1.2.3/8"),
                "ip saddr 10.0.0.0/8 udp dport 1-65535",
            ),
            (rule(false, "icmp", None, "10.0.0.1/32"), "ip daddr 10.0.0.1/32 ip protocol icmp"),
            (rule(false, "-1", None, "sg-1"), "ip daddr @sg-1"),
        ];
        for (rule, right) in cases {
            assert_eq!(allowance(&rule).as_deref(), Some(right), "{rule:?}");
        }
    }

    #[test]
    fn a_rule_that_is_not_understood_allows_nothing_and_is_named() {
        let bad = [
            rule(true, "tcp", Some((90, 80)), "0.0.0.0/0"),
            rule(true, "tcp", None, "0.0.0.0/0"),
            rule(true, "-1", Some((1, 2)), "0.0.0.0/0"),
            rule(true, "gre", None, "0.0.0.0/0"),
            rule(true, "-1", None, "::/0"),
            rule(true, "-1", None, "0.0.0.0/0 accept; #"),
            rule(true, "-1", None, "sg-1 accept"),
        ];
        let port = port(4, &[], bad.to_vec());
        let firewall = firewall("0a0b", &[("ep0a0b1".to_owned(), &port)]);
        assert_eq!(firewall.not_understood, bad);
        assert!(!firewall.script.contains("return"), "{}", firewall.script);
    }

    #[test]
    fn a_group_stands_for_its_members_on_this_host() {
        let rules = vec![rule(true, "-1", None, "sg-1"), rule(true, "-1", None, "sg-3")];
        let ports = [
            port(4, &["sg-1"], rules),
            port(5, &["sg-2", "sg-1"], vec![]),
            port(6, &["sg-2"], vec![]),
        ];
        let named: Vec<_> =
            ports.iter().map(|port| (format!("ep0a0b{}", port.prefix), port)).collect();
        let script = firewall("0a0b", &named).script;
        let set = "set sg-1 { type ipv4_addr; elements = { 172.31.0.4, 172.31.0.5 } }";
        assert!(script.contains(set), "{script}");
        assert!(script.contains("set sg-3 { type ipv4_addr; }"), "{script}");
        assert!(!script.contains("sg-2"), "no rule names it: {script}");
    }

    #[test]
    fn a_host_without_instances_has_no_table() {
        let right = "table inet eventplane_0a0b\ndelete table inet eventplane_0a0b\n";
        assert_eq!(firewall("0a0b", &[]).script, right);
    }
}
