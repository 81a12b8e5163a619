//! Instances in network namespaces, with the real `ip`, `nft` and kernel. Each test runs its own
//! program anew inside a network namespace of its own, so that nothing of the machine's network is
//! touched, whatever happens.

use eventplane_agent::machine::netns::{Netns, NetnsError, listen_inside};
use eventplane_agent::machine::port::Port;
use eventplane_domain::{FirewallRule, HostId, InstanceId, Millis};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

/// Set in the program that runs inside.
const INSIDE: &str = "EVENTPLANE_TEST_INSIDE";
/// How long something that does not come is waited for.
const PATIENCE: Duration = Duration::from_millis(400);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
const METADATA: &str = "169.254.169.254:80";

/// Whether this is the inside. Outside, the test called `test` is run inside, if that can be done
/// here, and has to succeed there.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let skip = |why: &str| {
        // Past the test's captured output: who runs the tests has to see it.
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
        false
    };
    let tried = Command::new("unshare").args(["--net", "--mount", "true"]).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return skip("`unshare --net --mount` does not work here: it needs root");
    }
    if let Err(error) = Netns::find(&host()) {
        return skip(&error.to_string());
    }
    let inside = "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && \
                  exec \"$0\" --exact \"$1\" --nocapture";
    let output = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", inside])
        .arg(std::env::current_exe().expect("this program"))
        .arg(test)
        .env(INSIDE, "1")
        .output()
        .expect("started");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "inside: {}\n{}", output.status, said.concat());
    false
}

fn host() -> HostId {
    HostId::parse("host-a").expect("an id")
}

fn netns() -> Netns {
    Netns::find(&host()).expect("looked for before")
}

fn rule(ingress: bool, protocol: &str, ports: Option<(u16, u16)>, peer: &str) -> FirewallRule {
    FirewallRule { ingress, protocol: protocol.to_owned(), ports, peer: peer.to_owned() }
}

/// An instance with the rules of a default group: everything from its members, and everything out.
fn port(n: u8, group: &str) -> Port {
    Port {
        instance: InstanceId::new(Millis(1_795_514_400_000), u64::from(n)),
        address: Ipv4Addr::new(172, 31, 0, n),
        prefix: 20,
        gateway: GATEWAY,
        mac: format!("02:00:00:00:00:{n:02x}"),
        groups: vec![group.to_owned()],
        rules: vec![rule(true, "-1", None, group), rule(false, "-1", None, "0.0.0.0/0")],
    }
}

/// Does something inside a namespace.
fn within<T: Send>(namespace: &str, what: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    let moved = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("moved");
        what()
    };
    std::thread::scope(|scope| scope.spawn(moved).join().expect("done"))
}

/// Three instances that all listen at the ports 80 and 81: two of one group, one of another.
struct Site {
    netns: Netns,
    ports: [Port; 3],
    _listeners: Vec<TcpListener>,
}

impl Site {
    fn new() -> Site {
        let netns = netns();
        let ports = [port(4, "sg-1"), port(5, "sg-1"), port(6, "sg-2")];
        let mut listeners = Vec::new();
        for port in &ports {
            netns.up(port).expect("up");
            for number in [80, 81] {
                let at = SocketAddr::from((port.address, number));
                let namespace = netns.namespace(&port.instance);
                listeners.push(listen_inside(&namespace, at).expect("listening"));
            }
        }
        Site { netns, ports, _listeners: listeners }
    }

    fn namespace(&self, n: usize) -> String {
        self.netns.namespace(&self.ports[n].instance)
    }

    /// Whether instance `from` gets through to this port of instance `to`.
    fn reaches(&self, from: usize, to: usize, number: u16) -> bool {
        let at = SocketAddr::from((self.ports[to].address, number));
        within(&self.namespace(from), || connects(at))
    }

    /// Which source a datagram of instance `from` has when it comes to instance `to`, if it does;
    /// `bind` is the address that the sender says it has.
    fn datagram(&self, from: usize, bind: Ipv4Addr, to: usize) -> Option<SocketAddr> {
        let receiver = within(&self.namespace(to), || {
            UdpSocket::bind((self.ports[to].address, 9)).expect("bound")
        });
        receiver.set_read_timeout(Some(PATIENCE)).expect("set");
        within(&self.namespace(from), || {
            let sender = UdpSocket::bind((bind, 0)).expect("bound");
            sender.send_to(b"hello", (self.ports[to].address, 9)).expect("sent");
        });
        receiver.recv_from(&mut [0; 8]).ok().map(|(_, source)| source)
    }
}

fn connects(at: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&at, PATIENCE) {
        Ok(_) => true,
        Err(error) => {
            let dropped = error.kind() == ErrorKind::TimedOut;
            assert!(dropped, "{at}: {error}: what is denied is dropped without a word");
            false
        }
    }
}

/// Runs a command and gives what it says.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect("started");
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn members_of_one_group_reach_each_other_and_nobody_else_does() {
    if !is_inside("members_of_one_group_reach_each_other_and_nobody_else_does") {
        return;
    }
    let site = Site::new();
    assert!(site.reaches(0, 1, 80) && site.reaches(1, 0, 81), "of one group");
    for (from, to) in [(0, 2), (2, 0), (2, 1)] {
        assert!(!site.reaches(from, to, 80), "{from} to {to}: of different groups");
    }
    let first = SocketAddr::from((site.ports[0].address, 80));
    assert!(!connects(first), "the host is no member");
    let _host = TcpListener::bind((GATEWAY, 7000)).expect("the host has the router's address");
    let reached = within(&site.namespace(0), || connects(SocketAddr::from((GATEWAY, 7000))));
    assert!(!reached, "an instance reaches nothing of the host's own");
}

#[test]
fn rules_are_put_in_the_place_of_others_while_instances_run() {
    if !is_inside("rules_are_put_in_the_place_of_others_while_instances_run") {
        return;
    }
    let site = Site::new();
    let [first, second, third] = site.ports.clone();
    let mut open = third.clone();
    open.rules.push(rule(true, "tcp", Some((80, 80)), "0.0.0.0/0"));
    site.netns.up(&open).expect("up");
    assert!(site.reaches(0, 2, 80), "allowed now");
    assert!(!site.reaches(0, 2, 81), "another port");
    assert!(connects(SocketAddr::from((third.address, 80))), "the host is somebody too");
    let mut block = open.clone();
    block.rules[2].peer = "172.31.0.5/32".to_owned();
    site.netns.up(&block).expect("up");
    assert!(site.reaches(1, 2, 80) && !site.reaches(0, 2, 80), "one address only");
    let closed = Port { rules: vec![rule(true, "-1", None, "sg-1")], ..first.clone() };
    site.netns.up(&closed).expect("up");
    assert!(!site.reaches(0, 1, 80), "nothing goes out");
    assert!(site.reaches(1, 0, 80), "answers do");
    let moved = Port { groups: vec!["sg-2".to_owned()], ..second };
    site.netns.up(&moved).expect("up");
    assert!(!site.reaches(1, 0, 80), "no member any more");
}

#[test]
fn only_its_own_addresses_leave_an_instance() {
    if !is_inside("only_its_own_addresses_leave_an_instance") {
        return;
    }
    let site = Site::new();
    let [first, _, third] = &site.ports;
    let source = site.datagram(0, first.address, 1).map(|source| source.ip());
    assert_eq!(source, Some(first.address.into()), "its own address");
    // An address of the group that the receiver lets in.
    let namespace = site.namespace(2);
    let spoofed = format!("{}/32", first.address);
    said("ip", &["-n", &namespace, "address", "add", &spoofed, "dev", "eth0"]);
    assert_eq!(site.datagram(2, first.address, 1), None, "another's address");
    said("ip", &["-n", &namespace, "address", "del", &spoofed, "dev", "eth0"]);
    assert_eq!(site.datagram(2, third.address, 1), None, "not of the group");
    let namespace = site.namespace(0);
    let hardware =
        |mac| said("ip", &["-n", &namespace, "link", "set", "dev", "eth0", "address", mac]);
    hardware("02:00:00:00:00:99");
    assert_eq!(site.datagram(0, first.address, 1), None, "another hardware address");
    hardware(&first.mac);
    assert!(site.datagram(0, first.address, 1).is_some(), "its own again");
}

#[test]
fn after_down_nothing_is_left() {
    if !is_inside("after_down_nothing_is_left") {
        return;
    }
    let all = || {
        let links = said("ip", &["-brief", "link"]);
        let names = links.lines().filter_map(|line| line.split_whitespace().next());
        (
            names.map(str::to_owned).collect::<Vec<_>>(),
            said("ip", &["-4", "route"]),
            said("ip", &["netns", "list"]),
            said("nft", &["list", "ruleset"]),
        )
    };
    let before = all();
    let site = Site::new();
    let instances = site.ports.each_ref().map(|port| port.instance.clone());
    assert_ne!(all(), before);
    for port in &site.ports {
        site.netns.up(port).expect("what is up already");
    }
    assert_eq!(site.netns.left_over().expect("listed"), []);
    site.netns.down(&instances[2]).expect("down");
    assert!(!said("nft", &["list", "ruleset"]).contains("172.31.0.6"), "no rules of it");
    let anew = netns();
    assert_eq!(anew.left_over().expect("listed"), instances[..2], "it knows of no port");
    let another = Netns::find(&HostId::parse("host-b").expect("an id")).expect("found");
    assert_eq!(another.left_over().expect("listed"), [], "another host's are not its own");
    for instance in &instances {
        anew.down(instance).expect("down");
        anew.down(instance).expect("what is down already");
    }
    assert_eq!(all(), before);
}

#[test]
fn an_agent_that_is_started_anew_takes_over_what_is_up() {
    if !is_inside("an_agent_that_is_started_anew_takes_over_what_is_up") {
        return;
    }
    let mut site = Site::new();
    site.netns = netns();
    for port in &site.ports[..2] {
        site.netns.adopt(port.clone());
    }
    // What it did not take over is shut, not open.
    site.netns.up(&port(7, "sg-3")).expect("up");
    assert!(site.reaches(0, 1, 80) && site.reaches(1, 0, 80));
    assert!(!site.reaches(0, 2, 80) && !site.reaches(2, 0, 80));
    assert_eq!(site.datagram(0, site.ports[0].address, 2), None, "not one way either");
    let third =
        within(&site.namespace(2), || UdpSocket::bind((site.ports[2].address, 10)).expect("bound"));
    third.set_read_timeout(Some(PATIENCE)).expect("set");
    let of_host = UdpSocket::bind((GATEWAY, 0)).expect("bound");
    // What the firewall drops on its way out is not allowed to be sent.
    let sent = of_host.send_to(b"hello", (site.ports[2].address, 10)).map_err(|error| error.kind());
    assert_eq!(sent, Err(ErrorKind::PermissionDenied));
    assert!(third.recv_from(&mut [0; 8]).is_err(), "nor for the host");
}

#[test]
fn what_a_crash_left_half_made_is_made_whole() {
    if !is_inside("what_a_crash_left_half_made_is_made_whole") {
        return;
    }
    let site = Site::new();
    let namespace = site.namespace(1);
    said("umount", &[&format!("/run/netns/{namespace}")]);
    site.netns.up(&site.ports[1]).expect("a name without a namespace");
    let at = SocketAddr::from((site.ports[1].address, 82));
    let _listener = listen_inside(&namespace, at).expect("listening");
    assert!(site.reaches(0, 1, 82), "made anew");
    said("ip", &["-n", &namespace, "link", "del", "dev", "eth0"]);
    site.netns.up(&site.ports[1]).expect("a namespace without an interface");
    assert!(site.reaches(0, 1, 82), "made whole");
}

#[test]
fn an_address_that_another_instance_has_is_not_taken_from_it() {
    if !is_inside("an_address_that_another_instance_has_is_not_taken_from_it") {
        return;
    }
    let site = Site::new();
    let instance = InstanceId::new(Millis(1_795_514_400_001), 1);
    let twin = Port { instance: instance.clone(), ..site.ports[0].clone() };
    let error = site.netns.up(&twin).expect_err("taken");
    assert!(matches!(error, NetnsError::AddressTaken { .. }), "{error}");
    assert!(error.to_string().contains("172.31.0.4"), "{error}");
    assert!(site.reaches(1, 0, 80), "the first has it still");
    site.netns.down(&instance).expect("nothing was made");
    assert!(site.reaches(1, 0, 80), "and its rules");
}

#[test]
fn an_instance_finds_its_own_metadata_service_and_no_other() {
    if !is_inside("an_instance_finds_its_own_metadata_service_and_no_other") {
        return;
    }
    let site = Site::new();
    let at: SocketAddr = METADATA.parse().expect("an address");
    let listener = listen_inside(&site.namespace(0), at).expect("listening");
    assert!(within(&site.namespace(0), || TcpStream::connect(at)).is_ok());
    let (_, peer) = listener.accept().expect("it was this one");
    assert_eq!(peer.ip(), at.ip(), "from within");
    let error = within(&site.namespace(1), || TcpStream::connect(at)).expect_err("nobody's");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert!(listen_inside("ep-none", at).is_err());
}

/// Each `PATH` with what is missing there.
#[test]
fn what_is_missing_is_named_with_its_package() {
    let name = "what_is_missing_is_named_with_its_package";
    if let Some(right) = std::env::var_os(INSIDE) {
        let Err(error) = Netns::find(&host()) else { panic!("found") };
        let right = right.to_str().expect("text");
        assert!(error.to_string().contains(right), "no {right} in: {error}");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for (program, of, right) in [
        ("none", "/bin/true", "install the package `iproute2`"),
        ("ip", "/bin/true", "install the package `nftables`"),
        ("nft", "/bin/false", "start the agent as root"),
    ] {
        std::os::unix::fs::symlink(of, dir.path().join(program)).expect("made");
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", name])
            .env(INSIDE, right)
            .env("PATH", dir.path())
            .output()
            .expect("started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
