//! Subnets, route tables and security groups, as people manage them.

use crate::world::{World, ZONE, allocated, instance, message, spec, withdrawn};
use eventplane_domain::{LaunchSpec, Network, Outcome, Reason, code};
use eventplane_engine::Handler;
use eventplane_events::Data;
use eventplane_network::manage::route_tables::{self, DeleteRoute, RouteView};
use eventplane_network::manage::security_groups::{self, CreateGroup, Direction, Rule};
use eventplane_network::manage::subnets::{self, Addresses, CreateSubnet, SubnetView};
use eventplane_network::subnets::key;
use eventplane_network::{groups, seed};
use eventplane_store::{ItemExt, Store, Update, Write};
use std::sync::Arc;

fn subnet(cidr_block: &str) -> CreateSubnet {
    CreateSubnet { zone: ZONE.to_owned(), cidr_block: cidr_block.to_owned(), route_table_id: None }
}

fn group(name: &str) -> CreateGroup {
    CreateGroup { name: name.to_owned(), description: String::new() }
}

fn tcp(port: u16, peer: &str) -> Rule {
    Rule {
        direction: Direction::Ingress,
        protocol: "tcp".to_owned(),
        from_port: Some(port),
        to_port: Some(port),
        peer: peer.to_owned(),
    }
}

fn route(destination: &str, target: &str) -> RouteView {
    RouteView { destination: destination.to_owned(), target: target.to_owned() }
}

/// The code of a refusal, whose sentence says this.
fn refused<T: std::fmt::Debug>(answer: Result<T, Reason>, says: &str) -> String {
    let reason = answer.expect_err("a refusal");
    assert!(reason.message.contains(says), "`{}` does not say `{says}`", reason.message);
    reason.code
}

impl World {
    async fn make_subnet(&self, request: &CreateSubnet) -> Result<SubnetView, Reason> {
        subnets::create(&self.ports, &self.tenant, request).await.expect("no fault")
    }

    async fn delete_subnet(&self, id: &str) -> Result<(), Reason> {
        subnets::delete(&self.ports, &self.tenant, id).await.expect("no fault")
    }

    async fn make_group(&self, name: &str) -> String {
        let made = security_groups::create(&self.ports, &self.tenant, &group(name)).await;
        made.expect("no fault").expect("made").group_id
    }

    async fn delete_group(&self, id: &str) -> Result<(), Reason> {
        security_groups::delete(&self.ports, &self.tenant, id).await.expect("no fault")
    }

    async fn add_rule(&self, id: &str, rule: &Rule) -> Result<Vec<Rule>, Reason> {
        let added = security_groups::add_rule(&*self.store, &self.tenant, id, rule).await;
        added.expect("no fault").map(|group| group.rules)
    }

    async fn launch(&self, n: u64, spec: LaunchSpec) -> Result<Network, Reason> {
        match self.answer(&allocated(&instance(n), 1, ZONE, spec)).await {
            Data::NetworkConfigured(configured) => Ok(configured.network),
            Data::LaunchFailed(failed) => Err(failed.reason),
            other => panic!("{other:?}"),
        }
    }

    async fn terminate(&self, n: u64) {
        self.answer(&withdrawn(&instance(n), 1, Outcome::Terminate)).await;
    }
}

/// Instances that are processes of one machine have addresses that the machine has for itself.
#[tokio::test]
async fn a_subnet_may_lie_within_one_machine() {
    let world = World::new(&[ZONE]).await;
    let made = world.make_subnet(&subnet("127.80.0.0/24")).await.expect("made");
    let asked = LaunchSpec { subnet_id: Some(made.subnet_id), ..spec() };
    let network = world.launch(1, asked).await.expect("a lease");
    assert!(network.private_ip.starts_with("127.80.0."), "{}", network.private_ip);
    assert_eq!(network.gateway, "127.80.0.1");
    let local = network.routes.iter().any(|route| route.destination == "127.0.0.0/8");
    assert!(local, "{:?}", network.routes);
    let past = world.make_subnet(&subnet("128.0.0.0/24")).await;
    assert_eq!(refused(past, "127.0.0.0/8"), "InvalidSubnet.Range");
}

#[tokio::test]
async fn a_subnet_is_made_used_and_deleted() {
    let world = World::new(&[ZONE]).await;
    let made = world.make_subnet(&subnet("10.0.0.5/28")).await.expect("made");
    assert_eq!((made.cidr_block.as_str(), made.state), ("10.0.0.0/28", "available"));
    assert!(!made.default_for_zone);
    let asked = LaunchSpec { subnet_id: Some(made.subnet_id.clone()), ..spec() };
    let network = world.launch(1, asked).await.expect("a lease");
    assert_eq!(network.subnet_id, made.subnet_id);
    let got = subnets::get(&world.ports, &world.tenant, &made.subnet_id).await;
    let leased = Addresses { usable: 11, leased: 1, resting: 0, free: 10 };
    assert_eq!(got.expect("no fault").expect("there").addresses, Some(leased));
    let refusal = world.delete_subnet(&made.subnet_id).await;
    assert_eq!(refused(refusal, "instances have 1 of the addresses"), "DependencyViolation");
    world.terminate(1).await;
    let got = subnets::get(&world.ports, &world.tenant, &made.subnet_id).await;
    let resting = Addresses { usable: 11, leased: 0, resting: 1, free: 10 };
    assert_eq!(got.expect("no fault").expect("there").addresses, Some(resting));
    assert_eq!(world.delete_subnet(&made.subnet_id).await, Ok(()));
    let again = world.delete_subnet(&made.subnet_id).await;
    assert_eq!(refused(again, "there is no subnet"), "InvalidSubnetID.NotFound");
    let asked = LaunchSpec { subnet_id: Some(made.subnet_id.clone()), ..spec() };
    let refusal = world.launch(2, asked).await;
    assert_eq!(refused(refusal, "there is no subnet"), code::SUBNET_NOT_FOUND);
    assert_eq!(subnets::list(&*world.store, &world.tenant).await.expect("read").len(), 1);
}

#[tokio::test]
async fn a_subnet_that_cannot_be_is_refused_with_what_would_be_right() {
    let world = World::new(&[ZONE]).await;
    let with = |cidr: &str, zone: &str, table: Option<&str>| CreateSubnet {
        zone: zone.to_owned(),
        route_table_id: table.map(str::to_owned),
        ..subnet(cidr)
    };
    for (request, code, says) in [
        (subnet("10.0.0.0/15"), "InvalidSubnet.Range", "between /16 and /28"),
        (subnet("10.0.0.0/29"), "InvalidSubnet.Range", "between /16 and /28"),
        (subnet("8.8.8.0/24"), "InvalidSubnet.Range", "192.168.0.0/16"),
        (subnet("172.32.0.0/16"), "InvalidSubnet.Range", "172.16.0.0/12"),
        (subnet("172.31.0.0/24"), "InvalidSubnet.Conflict", "overlaps 172.31.0.0/20"),
        (subnet("172.31.0.0/16"), "InvalidSubnet.Conflict", "overlaps 172.31.0.0/20"),
        (subnet("10.0.0.0"), "InvalidParameterValue", "`cidr_block`"),
        (subnet("fd00::/64"), "InvalidParameterValue", "IPv4"),
        (with("10.0.0.0/24", "", None), "InvalidParameterValue", "`zone`"),
        (with("10.0.0.0/24", "a/b", None), "InvalidParameterValue", "`zone`"),
        (with("10.0.0.0/24", ZONE, Some("x")), "InvalidRouteTableId.Malformed", "17 hexadecimal"),
        (
            with("10.0.0.0/24", ZONE, Some("rtb-0123456789abcdef0")),
            "InvalidRouteTableID.NotFound",
            "no route table rtb-",
        ),
    ] {
        assert_eq!(refused(world.make_subnet(&request).await, says), code);
    }
    assert_eq!(
        refused(world.delete_subnet("subnet-x").await, "17 hex"),
        "InvalidSubnetId.Malformed"
    );
    assert_eq!(subnets::list(&*world.store, &world.tenant).await.expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_subnets_that_overlap_one_comes_into_being_and_the_others_all_do() {
    let world = Arc::new(World::new(&[ZONE]).await);
    let tasks: Vec<_> = (0..6_u8)
        .map(|n| {
            let world = world.clone();
            let cidr = if n < 3 { "10.0.0.0/24".to_owned() } else { format!("10.{n}.0.0/24") };
            tokio::spawn(async move { world.make_subnet(&subnet(&cidr)).await.map(|_| ()) })
        })
        .collect();
    let mut refusals = Vec::new();
    for task in tasks {
        if let Err(reason) = task.await.expect("the task ends") {
            refusals.push(reason.code);
        }
    }
    assert_eq!(refusals, ["InvalidSubnet.Conflict", "InvalidSubnet.Conflict"]);
    let all = subnets::list(&*world.store, &world.tenant).await.expect("read");
    assert_eq!(all.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_at_the_moment_of_launches_leaves_no_lease_without_a_subnet() {
    for round in 0..8_u64 {
        let world = Arc::new(World::new(&[ZONE]).await);
        let id = world.make_subnet(&subnet("10.0.0.0/26")).await.expect("made").subnet_id;
        let launches: Vec<_> = (0..8)
            .map(|n| {
                let (world, id) = (world.clone(), id.clone());
                tokio::spawn(async move {
                    let asked = LaunchSpec { subnet_id: Some(id), ..spec() };
                    let event = allocated(&instance(round * 8 + n), 1, ZONE, asked);
                    world.step.handle(&message(&event)).await.expect("handled");
                })
            })
            .collect();
        let deleted = world.delete_subnet(&id).await;
        for launch in launches {
            launch.await.expect("the task ends");
        }
        let events = world.published();
        let leased = events.iter().filter(|e| matches!(e.data, Data::NetworkConfigured(_))).count();
        match deleted {
            Ok(()) => assert_eq!(leased, 0),
            Err(reason) => {
                assert_eq!(reason.code, "DependencyViolation");
                let asked = LaunchSpec { subnet_id: Some(id), ..spec() };
                world.launch(1000, asked).await.expect("it is open again");
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_that_was_cut_short_is_ended_by_the_next() {
    let world = World::new(&[ZONE]).await;
    let id = world.make_subnet(&subnet("10.0.0.0/26")).await.expect("made").subnet_id;
    let asked = LaunchSpec { subnet_id: Some(id.clone()), ..spec() };
    world.launch(1, asked.clone()).await.expect("a lease");
    let cut_short = async || {
        let key = key(&world.tenant);
        let item = world.store.get(&key).await.expect("read").expect("subnets");
        let seen = item.text(&id).expect("the subnet");
        let marked = format!(r#"{},"deleting":"somebody"}}"#, seen.trim_end_matches('}'));
        let write = Write::update(key, vec![Update::set(&id, marked)]);
        world.store.transact(vec![write]).await.expect("written");
    };
    cut_short().await;
    let refusal = world.launch(2, asked.clone()).await;
    assert_eq!(refused(refusal, "is being deleted"), code::SUBNET_NOT_FOUND);
    assert_eq!(refused(world.delete_subnet(&id).await, "have 1 of"), "DependencyViolation");
    world.launch(3, asked).await.expect("it is open again");
    world.terminate(1).await;
    world.terminate(3).await;
    cut_short().await;
    assert_eq!(world.delete_subnet(&id).await, Ok(()));
}

#[tokio::test]
async fn a_deleted_default_subnet_is_not_made_again() {
    let world = World::new(&[ZONE, "zone-b"]).await;
    let all = subnets::list(&*world.store, &world.tenant).await.expect("read");
    let id = &all.iter().find(|subnet| subnet.zone == ZONE).expect("one").subnet_id;
    assert_eq!(world.delete_subnet(id).await, Ok(()));
    seed(&*world.store, &world.tenant, &[ZONE.to_owned()]).await.expect("seeded");
    let refusal = world.launch(1, spec()).await;
    assert_eq!(refused(refusal, "has no default subnet"), code::SUBNET_NOT_FOUND);
}

#[tokio::test]
async fn a_route_table_takes_routes_and_its_subnets_instances_are_told() {
    let world = World::new(&[ZONE]).await;
    let (store, tenant) = (&*world.store, &world.tenant);
    let table = route_tables::create(&world.ports, tenant).await.expect("no fault").expect("made");
    let id = table.route_table_id.as_str();
    let request = CreateSubnet { route_table_id: Some(id.to_owned()), ..subnet("10.0.0.0/24") };
    let made = world.make_subnet(&request).await.expect("made");
    let add = async |to: &str, target: &str| {
        route_tables::add_route(store, tenant, id, &route(to, target)).await.expect("no fault")
    };
    let added = add("0.0.0.0/0", "igw-1").await.expect("added");
    assert_eq!(added.subnet_ids, std::slice::from_ref(&made.subnet_id));
    let again = add("0.0.0.0/0", "igw-2").await;
    assert_eq!(refused(again, "through igw-1"), "RouteAlreadyExists");
    assert_eq!(refused(add("10.0.0.0/8", "x").await, "directly"), "InvalidParameterValue");
    assert_eq!(refused(add("0.0.0.0/1", "local").await, "`target`"), "InvalidParameterValue");
    assert_eq!(refused(add("0.0.0.0/1", "").await, "`target`"), "InvalidParameterValue");
    assert_eq!(refused(add("everywhere", "x").await, "`destination`"), "InvalidParameterValue");
    let asked = LaunchSpec { subnet_id: Some(made.subnet_id.clone()), ..spec() };
    let network = world.launch(1, asked).await.expect("a lease");
    let routes: Vec<_> =
        network.routes.iter().map(|r| (r.destination.as_str(), r.target.as_str())).collect();
    let right = [("10.0.0.0/8", "local"), ("172.16.0.0/12", "local"), ("0.0.0.0/0", "igw-1")];
    assert_eq!(routes, right);
    let remove = DeleteRoute { destination: "0.0.0.0/0".to_owned() };
    let removed = route_tables::remove_route(store, tenant, id, &remove).await.expect("no fault");
    assert_eq!(removed.expect("removed").routes.len(), 2);
    let again = route_tables::remove_route(store, tenant, id, &remove).await.expect("no fault");
    assert_eq!(refused(again, "no route of its own"), "InvalidRoute.NotFound");
    let used = route_tables::delete(store, tenant, id).await.expect("no fault");
    assert_eq!(refused(used, &made.subnet_id), "DependencyViolation");
    world.terminate(1).await;
    assert_eq!(world.delete_subnet(&made.subnet_id).await, Ok(()));
    assert_eq!(route_tables::delete(store, tenant, id).await.expect("no fault"), Ok(()));
    let gone = route_tables::get(store, tenant, id).await.expect("no fault");
    assert_eq!(refused(gone, "no route table"), "InvalidRouteTableID.NotFound");
}

#[tokio::test]
async fn the_main_route_table_stays_and_a_table_has_at_most_fifty_routes() {
    let world = World::new(&[ZONE]).await;
    let (store, tenant) = (&*world.store, &world.tenant);
    let all = route_tables::list(store, tenant).await.expect("read");
    assert_eq!((all.len(), all[0].main), (1, true));
    let id = all[0].route_table_id.as_str();
    let refusal = route_tables::delete(store, tenant, id).await.expect("no fault");
    assert_eq!(refused(refusal, "it stays"), "CannotDelete");
    for n in 0..50 {
        let request = route(&format!("10.{n}.0.0/16"), "vpn-1");
        let added = route_tables::add_route(store, tenant, id, &request).await.expect("no fault");
        assert!(added.is_ok());
    }
    let request = route("10.50.0.0/16", "vpn-1");
    let refusal = route_tables::add_route(store, tenant, id, &request).await.expect("no fault");
    assert_eq!(refused(refusal, "has 50 routes"), "RouteLimitExceeded");
}

#[tokio::test]
async fn the_rules_of_a_launchs_groups_are_compiled_for_its_host() {
    let world = World::new(&[ZONE]).await;
    let (web, db) = (world.make_group("web").await, world.make_group("db").await);
    world.add_rule(&web, &tcp(443, "100.68.0.18/18")).await.expect("added");
    world.add_rule(&db, &tcp(5432, &web)).await.expect("added");
    world.add_rule(&db, &tcp(443, "100.68.0.0/18")).await.expect("added");
    let asked =
        LaunchSpec { security_group_ids: vec![db.clone(), web.clone(), db.clone()], ..spec() };
    let network = world.launch(1, asked).await.expect("a lease");
    assert_eq!(network.security_group_ids.len(), 2, "each once");
    let rules: Vec<_> = network
        .rules
        .iter()
        .map(|r| (r.ingress, r.protocol.as_str(), r.ports, r.peer.as_str()))
        .collect();
    let right = [
        (false, "-1", None, "0.0.0.0/0"),
        (true, "tcp", Some((443, 443)), "100.68.0.0/18"),
        (true, "tcp", Some((5432, 5432)), web.as_str()),
    ];
    assert_eq!(rules, right);
}

#[tokio::test]
async fn a_receipt_stays_within_a_kilobyte_with_five_groups_and_many_generations() {
    let world = World::new(&[ZONE]).await;
    let mut asked = spec();
    for name in ["a", "b", "c", "d", "e"] {
        asked.security_group_ids.push(world.make_group(name).await);
    }
    world.launch(1, asked.clone()).await.expect("a lease");
    for generation in 2..12 {
        let before = world.store.stats().write_units;
        world.answer(&allocated(&instance(1), generation, ZONE, asked.clone())).await;
        assert_eq!(world.store.stats().write_units - before, 1);
    }
}

#[tokio::test]
async fn a_rule_is_added_once_removed_once_and_refused_when_malformed() {
    let world = World::new(&[ZONE]).await;
    let (store, tenant) = (&*world.store, &world.tenant);
    let id = world.make_group("web").await;
    let rules = world.add_rule(&id, &tcp(22, "10.0.0.0/8")).await.expect("added");
    assert_eq!(rules.len(), 2, "and everything out");
    let again = world.add_rule(&id, &tcp(22, "10.0.0.7/8")).await;
    assert_eq!(refused(again, "has this rule"), "InvalidPermission.Duplicate");
    let with = |protocol: &str, from_port, to_port| Rule {
        protocol: protocol.to_owned(),
        from_port,
        to_port,
        ..tcp(1, "0.0.0.0/0")
    };
    for (rule, code, says) in [
        (with("tcp", Some(2), Some(1)), "InvalidPermission.Malformed", "not above"),
        (with("udp", Some(2), None), "InvalidPermission.Malformed", "needs `from_port`"),
        (with("icmp", Some(2), Some(2)), "InvalidPermission.Malformed", "no ports"),
        (with("-1", None, Some(2)), "InvalidPermission.Malformed", "no ports"),
        (with("gre", None, None), "InvalidPermission.Malformed", "tcp, udp, icmp or -1"),
        (tcp(1, "sg-1"), "InvalidGroupId.Malformed", "17 hexadecimal"),
        (tcp(1, "sg-0123456789abcdef0"), "InvalidGroup.NotFound", "sg-0123456789abcdef0"),
        (tcp(1, "10.0.0.0"), "InvalidParameterValue", "`peer`"),
    ] {
        assert_eq!(refused(world.add_rule(&id, &rule).await, says), code);
    }
    let stranger = world.add_rule("sg-0123456789abcdef0", &tcp(1, "0.0.0.0/0")).await;
    assert_eq!(refused(stranger, "no security group"), "InvalidGroup.NotFound");
    for (rule, right) in
        [(tcp(22, "10.0.0.0/8"), None), (tcp(22, "10.0.0.0/8"), Some("InvalidPermission.NotFound"))]
    {
        let removed = security_groups::remove_rule(store, tenant, &id, &rule).await;
        let code = removed.expect("no fault").err().map(|reason| reason.code);
        assert_eq!(code.as_deref(), right);
    }
}

#[tokio::test]
async fn a_group_has_at_most_sixty_rules_of_a_direction() {
    let world = World::new(&[ZONE]).await;
    let id = world.make_group("web").await;
    for port in 0..60 {
        world.add_rule(&id, &tcp(port, "0.0.0.0/0")).await.expect("added");
    }
    let refusal = world.add_rule(&id, &tcp(60, "0.0.0.0/0")).await;
    assert_eq!(refused(refusal, "60 rules"), "RulesPerSecurityGroupLimitExceeded");
    let out = Rule { direction: Direction::Egress, ..tcp(60, "0.0.0.0/0") };
    assert_eq!(world.add_rule(&id, &out).await.expect("the other direction").len(), 62);
}

#[tokio::test]
async fn a_group_name_is_taken_once_and_free_again_after_its_group() {
    let world = World::new(&[ZONE]).await;
    let (ports, tenant) = (&world.ports, &world.tenant);
    let id = world.make_group("Web").await;
    for (name, code, says) in [
        ("web", "InvalidGroup.Duplicate", "called `web`"),
        ("default", "InvalidGroup.Duplicate", "called `default`"),
        ("", "InvalidParameterValue", "1 to 255"),
        ("sg-web", "InvalidParameterValue", "not beginning with sg-"),
        ("a\u{0}b", "InvalidParameterValue", "`name`"),
        ("ü", "InvalidParameterValue", "`name`"),
    ] {
        let made = security_groups::create(ports, tenant, &group(name)).await.expect("no fault");
        assert_eq!(refused(made, says), code);
    }
    assert_eq!(world.delete_group(&id).await, Ok(()));
    world.make_group("web").await;
    let names: Vec<_> = security_groups::list(&*world.store, tenant)
        .await
        .expect("read")
        .into_iter()
        .map(|group| (group.name, group.default))
        .collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&("default".to_owned(), true)));
    assert!(names.contains(&("web".to_owned(), false)));
}

#[tokio::test]
async fn a_group_goes_only_when_nobody_uses_it() {
    let world = World::new(&[ZONE]).await;
    let (web, db) = (world.make_group("web").await, world.make_group("db").await);
    let default = groups::default_id(&world.tenant);
    assert_eq!(refused(world.delete_group(&default).await, "it stays"), "CannotDelete");
    world.add_rule(&web, &tcp(1, &web)).await.expect("its own name is no use by another");
    world.add_rule(&db, &tcp(5432, &web)).await.expect("added");
    assert_eq!(refused(world.delete_group(&web).await, &db), "DependencyViolation");
    let asked = LaunchSpec { security_group_ids: vec![db.clone()], ..spec() };
    world.launch(1, asked.clone()).await.expect("a lease");
    let refusal = world.delete_group(&db).await;
    assert_eq!(refused(refusal, instance(1).as_str()), "DependencyViolation");
    world.launch(2, asked.clone()).await.expect("a refused deletion leaves the group as it was");
    world.terminate(1).await;
    world.terminate(2).await;
    assert_eq!(world.delete_group(&db).await, Ok(()));
    assert_eq!(world.delete_group(&web).await, Ok(()));
    assert_eq!(refused(world.delete_group(&web).await, "no security"), "InvalidGroup.NotFound");
    let refusal = world.launch(3, asked).await;
    assert_eq!(refused(refusal, &db), code::GROUP_NOT_FOUND);
}

#[test]
fn requests_with_unknown_fields_are_refused() {
    for json in [
        r#"{"zone":"a","cidr_block":"10.0.0.0/24","vpc_id":"vpc-1"}"#,
        r#"{"zone":"a"}"#,
        r#"{"zone":7,"cidr_block":"10.0.0.0/24"}"#,
    ] {
        assert!(serde_json::from_str::<CreateSubnet>(json).is_err(), "{json}");
    }
    let rule = r#"{"direction":"ingress","protocol":"tcp","from_port":1,"to_port":1,"peer":"x"}"#;
    assert_eq!(serde_json::from_str::<Rule>(rule).expect("a rule"), tcp(1, "x"));
    for (from, to) in [("ingress", "in"), ("\"peer\"", "\"cidr\""), (":1,", ":65536,")] {
        assert!(serde_json::from_str::<Rule>(&rule.replace(from, to)).is_err());
    }
}
