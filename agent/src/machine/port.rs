//! An instance's place in the network: what the control plane has leased it, read strictly. It goes
//! into commands and scripts, so nothing but addresses and ids gets through.

use eventplane_domain::{FirewallRule, InstanceId, Network};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use thiserror::Error;

/// What an instance was leased is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{field}` of {instance} is `{given}`, not {right}")]
pub struct MalformedPort {
    /// Whose it is.
    pub instance: InstanceId,
    /// Which field of the launch's `network`.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What would be right.
    pub right: &'static str,
}

/// An instance's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Whose it is.
    pub instance: InstanceId,
    /// Its address.
    pub address: Ipv4Addr,
    /// How many bits of the address are the subnet's.
    pub prefix: u8,
    /// The router's address.
    pub gateway: Ipv4Addr,
    /// Its hardware address: six pairs of hex digits.
    pub mac: String,
    /// Its security groups.
    pub groups: Vec<String>,
    /// What they allow; everything else is denied.
    pub rules: Vec<FirewallRule>,
}

impl Port {
    /// The port of an instance with this interface.
    ///
    /// # Errors
    /// [`MalformedPort`] when an address is none.
    pub fn of(instance: &InstanceId, network: &Network) -> Result<Port, MalformedPort> {
        let malformed = |field, given: &str, right| MalformedPort {
            instance: instance.clone(),
            field,
            given: given.to_owned(),
            right,
        };
        let address = |field, given: &str| {
            given.parse().map_err(|_| malformed(field, given, "an address such as 172.31.0.4"))
        };
        let cidr: Ipv4Net = network.cidr.parse().map_err(|_| {
            malformed("cidr", &network.cidr, "a block of addresses such as 172.31.0.0/20")
        })?;
        if !is_mac(&network.mac) {
            let right = "a hardware address such as 02:00:00:00:00:04";
            return Err(malformed("mac", &network.mac, right));
        }
        if let Some(bad) = network.security_group_ids.iter().find(|group| !is_group(group)) {
            return Err(malformed("security_group_ids", bad, GROUP_FORM));
        }
        Ok(Port {
            instance: instance.clone(),
            address: address("private_ip", &network.private_ip)?,
            prefix: cidr.prefix_len(),
            gateway: address("gateway", &network.gateway)?,
            mac: network.mac.clone(),
            groups: network.security_group_ids.clone(),
            rules: network.rules.clone(),
        })
    }
}

const GROUP_FORM: &str = "a security group's id: `sg-` and up to 17 letters and digits";

/// Whether a text is a security group's id.
pub(crate) fn is_group(text: &str) -> bool {
    text.strip_prefix("sg-").is_some_and(|rest| {
        (1..=17).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

fn is_mac(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    pairs.len() == 6 && pairs.iter().all(is_pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_domain::Millis;

    fn network() -> Network {
        Network {
            interface_id: "eni-1".to_owned(),
            private_ip: "172.31.0.4".to_owned(),
            mac: "02:0a:ac:1f:00:04".to_owned(),
            subnet_id: "subnet-1".to_owned(),
            cidr: "172.31.0.0/20".to_owned(),
            gateway: "172.31.0.1".to_owned(),
            security_group_ids: vec!["sg-0123456789abcdef0".to_owned()],
            rules: vec![],
            routes: vec![],
        }
    }

    #[test]
    fn a_lease_is_read() {
        let id = InstanceId::new(Millis(1), 1);
        let port = Port::of(&id, &network()).expect("right");
        assert_eq!((port.address, port.prefix), (Ipv4Addr::new(172, 31, 0, 4), 20));
        assert_eq!((port.gateway, port.mac.len()), (Ipv4Addr::new(172, 31, 0, 1), 17));
    }

    #[test]
    fn what_is_no_address_gets_into_no_script() {
        let id = InstanceId::new(Millis(1), 1);
        let refused = |change: &dyn Fn(&mut Network)| {
            let mut network = network();
            change(&mut network);
            Port::of(&id, &network).expect_err("malformed").field
        };
        assert_eq!(refused(&|it| it.private_ip = "::1".to_owned()), "private_ip");
        assert_eq!(refused(&|it| it.gateway = "172.31.0.1; drop".to_owned()), "gateway");
        assert_eq!(refused(&|it| it.cidr = "172.31.0.0".to_owned()), "cidr");
        assert_eq!(refused(&|it| it.mac = "02:00:00:00:00".to_owned()), "mac");
        assert_eq!(refused(&|it| it.mac = "02:00:00:00:00:0\n".to_owned()), "mac");
        let bad = |it: &mut Network| it.security_group_ids = vec!["sg-1 }".to_owned()];
        assert_eq!(refused(&bad), "security_group_ids");
    }
}
