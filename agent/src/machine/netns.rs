//! The network of instances that are processes: a network namespace each, made with iproute2's `ip`.
//!
//! A namespace is joined to the host by a pair of interfaces: `eth0` inside, with the leased address,
//! and one on the host that stands for the subnet's router. The host routes between them, by one route
//! for each address, and answers for all of a subnet on every instance's wire (proxy ARP). All of it
//! lies in the network namespace that the agent runs in. What goes beyond the host is its site's to
//! say: the machine's `net.ipv4.ip_forward` and routes are left as they are.
//!
//! One routing table has an address once: two instances with the same address (of two tenants, say)
//! do not run on one host.

use super::firewall::firewall;
use super::port::Port;
use eventplane_domain::{HostId, InstanceId};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;
use tracing::warn;

/// Where `ip` keeps its namespaces (`ip-netns(8)`).
pub(crate) const NAMESPACES: &str = "/run/netns";
/// The settings of IPv4's interfaces and neighbours (Linux documentation, "IP Sysctl").
const SETTINGS: &str = "/proc/sys/net/ipv4";
/// Where an instance finds its metadata: an address of its own loopback interface.
const METADATA: &str = "169.254.169.254/32";
/// An instance's interface, as the instance sees it.
const INSIDE: &str = "eth0";

/// Networks cannot be made here, or one could not: says what would help.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// A program is missing.
    #[error(
        "the driver netns needs `{program}`, which is not in PATH: install the package `{package}`"
    )]
    Missing {
        /// The program.
        program: &'static str,
        /// What brings it, as Debian names it.
        package: &'static str,
    },
    /// The kernel's firewall does not answer.
    #[error(
        "the driver netns needs nftables, which does not answer here ({0}): start the agent as \
         root, on a kernel with nf_tables"
    )]
    NoFirewall(String),
    /// Somebody else has the address.
    #[error(
        "{address} is taken on this host ({route}): instances of one host have different addresses"
    )]
    AddressTaken {
        /// The address.
        address: String,
        /// The route that leads to it.
        route: String,
    },
    /// A command has failed.
    #[error("`{command}` has failed: {why}")]
    Failed {
        /// The command.
        command: String,
        /// What it said.
        why: String,
    },
}

/// The networks of one host's instances. Its functions run a dozen commands and wait for them: they
/// belong on a thread that may block.
pub struct Netns {
    /// Tells the hosts of one machine apart.
    mark: String,
    /// What is up.
    ports: Mutex<BTreeMap<InstanceId, Port>>,
}

impl Netns {
    /// Looks for what is needed.
    ///
    /// # Errors
    /// [`NetnsError`] when a program is missing, or cannot do its work.
    pub fn find(host: &HostId) -> Result<Netns, NetnsError> {
        present("ip", "-V", "iproute2")?;
        present("nft", "--version", "nftables")?;
        run("nft", &["list", "tables"], "").map_err(|error| match error {
            NetnsError::Failed { why, .. } => NetnsError::NoFirewall(why),
            other => other,
        })?;
        let hash = Sha256::digest(host.as_str().as_bytes());
        let mark = format!("{:02x}{:02x}", hash[0], hash[1]);
        Ok(Netns { mark, ports: Mutex::default() })
    }

    /// The name of an instance's namespace, for `ip netns exec`.
    #[must_use]
    pub fn namespace(&self, instance: &InstanceId) -> String {
        format!("ep-{}-{}", self.mark, instance.digits())
    }

    /// The interface that the host has of an instance: 15 characters, the most that there can be.
    fn interface(&self, instance: &InstanceId) -> String {
        format!("ep{}{}", self.mark, &instance.digits()[8..])
    }

    /// Knows of a port that is up already, from before the agent was started anew. To be said of
    /// every one before the first is brought up or down: the firewall is that of all known ports.
    pub fn adopt(&self, port: Port) {
        self.known().insert(port.instance.clone(), port);
    }

    /// Brings an instance's network up, or what is missing of it. Its firewall comes first.
    ///
    /// # Errors
    /// [`NetnsError`] when a command fails; then another try, or [`Netns::down`], is right.
    pub fn up(&self, port: &Port) -> Result<(), NetnsError> {
        let mut known = self.known();
        let (interface, namespace) =
            (self.interface(&port.instance), self.namespace(&port.instance));
        self.check_address(port, &interface)?;
        known.insert(port.instance.clone(), port.clone());
        self.guard(&known)?;
        if !is_there(&["-n", &namespace, "link", "show", "dev", "lo"]) {
            // A name without a namespace is what a crash leaves; of a namespace's interfaces none
            // outlives it.
            let _ = ip(&["netns", "del", &namespace]);
            let _ = ip(&["link", "del", "dev", &interface]);
            ip(&["netns", "add", &namespace])?;
        }
        if !is_there(&["link", "show", "dev", &interface]) {
            ip(&[
                "link", "add", &interface, "type", "veth", "peer", "name", INSIDE, "address",
                &port.mac, "netns", &namespace,
            ])?;
        }
        let (gateway, address) = (port.gateway.to_string(), port.address.to_string());
        ip(&["link", "set", "dev", &interface, "up"])?;
        ip(&["address", "replace", &format!("{gateway}/32"), "dev", &interface])?;
        ip(&["route", "replace", &format!("{address}/32"), "dev", &interface, "src", &gateway])?;
        set(&format!("conf/{interface}/forwarding"), "1")?;
        set(&format!("conf/{interface}/proxy_arp"), "1")?;
        // Otherwise it lets an instance wait for up to 0.8 s.
        set(&format!("neigh/{interface}/proxy_delay"), "0")?;
        let inside = |args: &[&str]| ip(&[&["-n", &namespace], args].concat());
        inside(&["link", "set", "dev", "lo", "up"])?;
        inside(&["address", "replace", METADATA, "dev", "lo"])?;
        inside(&["address", "replace", &format!("{address}/{}", port.prefix), "dev", INSIDE])?;
        inside(&["link", "set", "dev", INSIDE, "up"])?;
        inside(&["route", "replace", "default", "via", &gateway, "dev", INSIDE])
    }

    /// Takes an instance's network down, whatever of it is there. Nothing may run in it any more.
    ///
    /// # Errors
    /// [`NetnsError`] when something of it stays.
    pub fn down(&self, instance: &InstanceId) -> Result<(), NetnsError> {
        let mut known = self.known();
        let (interface, namespace) = (self.interface(instance), self.namespace(instance));
        if is_there(&["link", "show", "dev", &interface]) {
            ip(&["link", "del", "dev", &interface])?;
        }
        if Path::new(NAMESPACES).join(&namespace).exists() {
            ip(&["netns", "del", &namespace])?;
        }
        known.remove(instance);
        self.guard(&known)
    }

    /// The instances of this host that have a namespace and no known port.
    ///
    /// # Errors
    /// When the namespaces cannot be listed.
    pub fn left_over(&self) -> io::Result<Vec<InstanceId>> {
        let entries = match std::fs::read_dir(NAMESPACES) {
            // No namespace was ever made on this machine.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            entries => entries?,
        };
        let known = self.known();
        let prefix = format!("ep-{}-", self.mark);
        let mut left_over = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            let id = digits.and_then(|digits| InstanceId::parse(&format!("i-{digits}")).ok());
            left_over.extend(id.filter(|id| !known.contains_key(id)));
        }
        left_over.sort();
        Ok(left_over)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_address(&self, port: &Port, interface: &str) -> Result<(), NetnsError> {
        let address = format!("{}/32", port.address);
        let routes = run("ip", &["route", "show", "exact", &address], "")?;
        let other = routes.lines().find(|route| {
            let words: Vec<&str> = route.split_whitespace().collect();
            !words.windows(2).any(|pair| pair == ["dev", interface])
        });
        match other {
            None => Ok(()),
            Some(route) => {
                Err(NetnsError::AddressTaken { address, route: route.trim().to_owned() })
            }
        }
    }

    /// Puts the firewall of these ports in the place of the one that is there.
    fn guard(&self, ports: &BTreeMap<InstanceId, Port>) -> Result<(), NetnsError> {
        let named: Vec<(String, &Port)> =
            ports.iter().map(|(id, port)| (self.interface(id), port)).collect();
        let firewall = firewall(&self.mark, &named);
        for rule in &firewall.not_understood {
            warn!(?rule, "a rule of a security group is not understood and allows nothing");
        }
        run("nft", &["-f", "-"], &firewall.script).map(drop)
    }
}

/// Listens at an address of an instance's namespace, for [`crate::metadata::serve`]. The socket
/// stays in the namespace that it was made in, whoever uses it: only the thread that makes it moves
/// there, and ends.
///
/// # Errors
/// When there is no such namespace or address, or the agent may not.
pub fn listen_inside(namespace: &str, address: SocketAddr) -> io::Result<TcpListener> {
    inside(namespace, move || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })
}

/// Does something on a thread of its own inside a namespace.
fn inside<T: Send>(namespace: &str, what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let path: PathBuf = Path::new(NAMESPACES).join(namespace);
    let file = File::open(path)?;
    let moved = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        what()
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(moved);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn present(program: &'static str, version: &str, package: &'static str) -> Result<(), NetnsError> {
    match Command::new(program).arg(version).stdin(Stdio::null()).output() {
        Ok(_) => Ok(()),
        Err(_) => Err(NetnsError::Missing { program, package }),
    }
}

fn ip(args: &[&str]) -> Result<(), NetnsError> {
    run("ip", args, "").map(drop)
}

fn is_there(args: &[&str]) -> bool {
    run("ip", args, "").is_ok()
}

/// Sets what the kernel does at an interface.
fn set(name: &str, value: &str) -> Result<(), NetnsError> {
    let path = format!("{SETTINGS}/{name}");
    std::fs::write(&path, value).map_err(|error| NetnsError::Failed {
        command: format!("echo {value} > {path}"),
        why: error.to_string(),
    })
}

/// Runs a command and gives what it says.
fn run(program: &str, args: &[&str], input: &str) -> Result<String, NetnsError> {
    let failed =
        |why: String| NetnsError::Failed { command: format!("{program} {}", args.join(" ")), why };
    let ran = || {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // One that ends before it has read all says why itself.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output()
    };
    let output = ran().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(if why.is_empty() { output.status.to_string() } else { why }))
}
