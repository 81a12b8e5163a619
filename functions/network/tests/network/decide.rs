//! The choice, case by case: facts in hand, no store.

use crate::world::{DEADLINE, NOW, ZONE, allocated, event, instance, spec, withdrawn};
use eventplane_domain::receipt::Answer;
use eventplane_domain::{FirewallRule, LaunchSpec, Millis, Outcome, Tenant, code};
use eventplane_engine::{Decision, Dice, Moment, Receipt, Step};
use eventplane_events::{Data, Event, TerminationRequested};
use eventplane_network::blocks::{Block, Ground, REST_MS, usable};
use eventplane_network::claim::Lease;
use eventplane_network::groups::{Group, default_id};
use eventplane_network::subnets::{Subnet, Subnets};
use eventplane_network::{Facts, Networking, receipt_key};
use eventplane_store::{Action, Item, ItemExt, apply};
use ipnet::Ipv4Net;

const SUBNET: &str = "subnet-0123456789abcdef0";
const OTHER: &str = "subnet-0123456789abcdef1";

fn subnet(subnet_id: &str, zone: &str, cidr: &str) -> Subnet {
    Subnet {
        subnet_id: subnet_id.to_owned(),
        zone: zone.to_owned(),
        cidr_block: cidr.parse().expect("a block of addresses"),
        route_table_id: "rtb-1".to_owned(),
        default_for_zone: zone == ZONE,
        deleting: None,
    }
}

fn cidr() -> Ipv4Net {
    "10.0.0.0/28".parse().expect("a block of addresses")
}

fn group(group_id: &str, rules: Vec<FirewallRule>) -> Group {
    Group {
        group_id: group_id.to_owned(),
        name: group_id.to_owned(),
        description: String::new(),
        rules,
        is_deleting: false,
    }
}

fn rule(ingress: bool, port: u16) -> FirewallRule {
    let (protocol, peer) = ("tcp".to_owned(), "10.0.0.0/8".to_owned());
    FirewallRule { ingress, protocol, ports: Some((port, port)), peer }
}

/// A subnet of 11 addresses in the zone, one in another zone, the default group, an empty block.
fn facts() -> Facts {
    Facts {
        subnets: Subnets {
            version: 2,
            all: vec![subnet(SUBNET, ZONE, "10.0.0.0/28"), subnet(OTHER, "zone-b", "10.1.0.0/28")],
        },
        groups: vec![group(&default_id(&Tenant::local()), vec![rule(false, 443)])],
        table: Some(Item::new().with("to 0.0.0.0/0", "igw-1")),
        summaries: vec![None],
        blocks: vec![Block { number: 0, item: None }],
        ..Facts::default()
    }
}

/// A block whose slots are leased by others, except these; and these others rest.
fn block(free: &[u32], resting: &[u32]) -> Block {
    let (tenant, mut block) = (Tenant::local(), Block { number: 0, item: None });
    let ground = Ground { tenant: &tenant, subnet_id: SUBNET, cidr: cidr() };
    for slot in usable(cidr(), 0).filter(|slot| !free.contains(slot)) {
        let lease = block.lease(&ground, slot, "i-other", Millis(0)).remove(0);
        block.item = apply(lease.action, block.item);
    }
    for slot in resting {
        let release = block.release(&ground, *slot, "i-other", NOW).remove(0);
        block.item = apply(release.action, block.item);
    }
    block
}

fn decided(event: &Event, facts: &Facts) -> Decision {
    decided_at(event, facts, NOW)
}

fn decided_at(event: &Event, facts: &Facts, now: Millis) -> Decision {
    Networking.decide(event, facts, Moment { now, received: 1, dice: &mut Dice::new(3) })
}

fn take(spec: LaunchSpec) -> Event {
    allocated(&instance(1), 1, ZONE, spec)
}

/// The receipt that the decision writes.
fn receipt(decision: &Decision) -> Receipt {
    let write = decision.writes.first().expect("a receipt is written first");
    assert_eq!(write.key, receipt_key(&Tenant::local(), &instance(1)));
    let Action::Put(item) = &write.action else { panic!("{write:?}") };
    Receipt::read(Some(item)).expect("a receipt").expect("a receipt")
}

fn address(decision: &Decision) -> String {
    match &decision.events[..] {
        [emit] => match &emit.data {
            Data::NetworkConfigured(configured) => configured.network.private_ip.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn refusal(decision: &Decision) -> (String, String) {
    let answer = receipt(decision);
    assert_eq!(answer.answer, Answer::Refused);
    assert_eq!(decision.writes.len(), 1, "a refusal takes nothing");
    let [emit] = &decision.events[..] else { panic!("{:?}", decision.events) };
    let Data::LaunchFailed(failed) = &emit.data else { panic!("{emit:?}") };
    assert_eq!(answer.reason.as_ref(), Some(&failed.reason));
    (failed.reason.code.clone(), failed.reason.message.clone())
}

#[test]
fn takes_a_free_address_and_says_all_that_the_host_has_to_know() {
    let decision = decided(&take(spec()), &facts());
    let [emit] = &decision.events[..] else { panic!("{decision:?}") };
    let Data::NetworkConfigured(configured) = &emit.data else { panic!("{emit:?}") };
    let network = &configured.network;
    assert_eq!(network.interface_id, instance(1).interface());
    assert_eq!((network.subnet_id.as_str(), network.cidr.as_str()), (SUBNET, "10.0.0.0/28"));
    assert_eq!(network.gateway, "10.0.0.1");
    assert_eq!(network.security_group_ids, [default_id(&Tenant::local())]);
    assert_eq!(network.rules, [rule(false, 443)]);
    let routes: Vec<_> =
        network.routes.iter().map(|r| (r.destination.as_str(), r.target.as_str())).collect();
    assert_eq!(routes, [("10.0.0.0/8", "local"), ("0.0.0.0/0", "igw-1")]);
    let receipt = receipt(&decision);
    assert_eq!(receipt.answer, Answer::Taken);
    let lease = Lease::held(&receipt).expect("a lease");
    assert_eq!(lease.address.to_string(), network.private_ip);
    let last = network.private_ip.rsplit('.').next().expect("a last number");
    assert_eq!(
        network.mac[3..],
        format!("{}:0a:00:00:{:02x}", &network.mac[3..5], last.parse::<u8>().expect("a number"))
    );
    assert_eq!(decision.writes.len(), 2, "the receipt and the block");
}

#[test]
fn takes_the_only_address_that_is_left_and_marks_the_block_full() {
    let facts = Facts { blocks: vec![block(&[9], &[])], ..facts() };
    let decision = decided(&take(spec()), &facts);
    assert_eq!(address(&decision), "10.0.0.9");
    assert_eq!(decision.writes.len(), 3, "the receipt, the block and its summary");
}

#[test]
fn honours_the_subnet_and_the_address_that_are_asked_for() {
    for (subnet_id, private_ip, right) in [
        (Some(SUBNET), None, None),
        (Some(SUBNET), Some("10.0.0.7"), Some("10.0.0.7")),
        (None, Some("10.0.0.14"), Some("10.0.0.14")),
    ] {
        let asked = LaunchSpec {
            subnet_id: subnet_id.map(str::to_owned),
            private_ip: private_ip.map(str::to_owned),
            ..spec()
        };
        let got = address(&decided(&take(asked), &facts()));
        assert_eq!(got.as_str(), right.unwrap_or(&got));
    }
}

#[test]
fn refuses_with_a_code_and_with_what_would_be_right() {
    let subnet = |id: &str| LaunchSpec { subnet_id: Some(id.to_owned()), ..spec() };
    let address = |ip: &str| LaunchSpec { private_ip: Some(ip.to_owned()), ..subnet(SUBNET) };
    let groups = |n: usize| LaunchSpec {
        security_group_ids: (0..n).map(|n| format!("sg-{n:017x}")).collect(),
        ..spec()
    };
    let free = || vec![Block { number: 0, item: None }];
    let mut going = facts();
    going.subnets.all[0].deleting = Some("me".to_owned());
    let leased = || vec![block(&[], &[])];
    let resting = || vec![block(&[], &[7])];
    let closed = || vec![Block { number: 0, item: Some(Item::new().with("closed", "me")) }];
    for (asked, blocks, code, says) in [
        (subnet("subnet-9"), free(), code::SUBNET_NOT_FOUND, "no subnet subnet-9"),
        (subnet(OTHER), free(), code::SUBNET_NOT_FOUND, "lies in zone zone-b"),
        (address("10.0.0"), free(), code::INVALID_ADDRESS, "not an IPv4 address"),
        (address("10.0.0.77"), free(), code::INVALID_ADDRESS, "does not lie in the subnet"),
        (address("10.0.0.0"), free(), code::INVALID_ADDRESS, "is reserved"),
        (address("10.0.0.3"), free(), code::INVALID_ADDRESS, "is reserved"),
        (address("10.0.0.15"), free(), code::INVALID_ADDRESS, "is reserved"),
        (address("10.0.0.7"), leased(), code::ADDRESS_IN_USE, "the address of i-other"),
        (address("10.0.0.7"), resting(), code::ADDRESS_IN_USE, "rests until 2026-11-18T11:07:40Z"),
        (address("10.0.0.7"), closed(), code::SUBNET_NOT_FOUND, "is being deleted"),
        (spec(), leased(), code::INSUFFICIENT_ADDRESSES, "11 addresses: 11 leased, 0 resting"),
        (spec(), resting(), code::INSUFFICIENT_ADDRESSES, "10 leased, 1 resting, the first of"),
        (groups(1), free(), code::GROUP_NOT_FOUND, "no security group sg-00000000000000000"),
        (groups(6), free(), "Client.SecurityGroupsPerInterfaceLimitExceeded", "at most 5"),
    ] {
        let facts = Facts { blocks, ..facts() };
        let (given, message) = refusal(&decided(&take(asked.clone()), &facts));
        assert_eq!(given, code, "{message}");
        assert!(message.contains(says), "`{message}` does not say `{says}`");
    }
    let (given, message) = refusal(&decided(&take(spec()), &going));
    assert_eq!(given, code::SUBNET_NOT_FOUND, "{message}");
}

#[test]
fn refuses_a_zone_without_a_default_subnet() {
    let elsewhere = allocated(&instance(1), 1, "zone-z", spec());
    let (given, message) = refusal(&decided(&elsewhere, &facts()));
    assert_eq!(given, code::SUBNET_NOT_FOUND);
    assert!(message.contains("zone zone-z has no default subnet"), "{message}");
}

#[test]
fn counts_blocks_that_it_knows_to_be_full_without_reading_them() {
    let mut facts = facts();
    facts.subnets.all[0].cidr_block = "10.0.0.0/20".parse().expect("a block of addresses");
    let full = |from: u32| {
        let marks = (from..from + 64).map(|block| (format!("f{block}"), true.into()));
        Some(marks.collect::<Item>())
    };
    facts.summaries = vec![full(0), full(64)];
    facts.blocks = vec![];
    let (_, message) = refusal(&decided(&take(spec()), &facts));
    assert!(message.contains("4,091 addresses: 4,091 leased, 0 resting"), "{message}");
    facts.summaries = vec![full(0), None];
    let (_, message) = refusal(&decided(&take(spec()), &facts));
    assert!(message.contains("64 blocks of 32 addresses were not looked at"), "{message}");
}

#[test]
fn a_newer_generation_keeps_its_address_and_is_told_the_rules_of_today() {
    let first = decided(&take(spec()), &facts());
    let held = Facts {
        receipt: Some(receipt(&first)),
        groups: vec![group(&default_id(&Tenant::local()), vec![rule(true, 22)])],
        blocks: vec![],
        ..facts()
    };
    let again = decided(&allocated(&instance(1), 2, ZONE, spec()), &held);
    assert_eq!(address(&again), address(&first));
    assert_eq!(again.writes.len(), 1, "the receipt alone");
    let after = receipt(&again);
    assert_eq!((after.generation, after.answer), (2, Answer::Taken));
    assert_eq!(after.claim, receipt(&first).claim);
    let Data::NetworkConfigured(configured) = &again.events[0].data else { panic!() };
    assert_eq!(configured.network.rules, [rule(true, 22)]);
}

#[test]
fn a_group_that_goes_is_refused_to_a_newcomer_and_left_to_whoever_has_it() {
    let mut going = facts();
    going.groups[0].is_deleting = true;
    let (given, _) = refusal(&decided(&take(spec()), &going));
    assert_eq!(given, code::GROUP_NOT_FOUND);
    going.receipt = Some(receipt(&decided(&take(spec()), &facts())));
    let kept = decided(&allocated(&instance(1), 2, ZONE, spec()), &going);
    assert_eq!(receipt(&kept).answer, Answer::Taken);
}

#[test]
fn a_refusal_of_a_newer_generation_keeps_the_address() {
    let first = decided(&take(spec()), &facts());
    let held = Facts { receipt: Some(receipt(&first)), groups: vec![], ..facts() };
    let second = decided(&allocated(&instance(1), 2, ZONE, spec()), &held);
    assert_eq!(refusal(&second).0, code::GROUP_NOT_FOUND);
    assert_eq!(Lease::held(&receipt(&second)), Lease::held(&receipt(&first)));
}

#[test]
fn what_is_recorded_is_published_again_and_nothing_is_written() {
    let first = decided(&take(spec()), &facts());
    let held = Facts { receipt: Some(receipt(&first)), ..facts() };
    let again = decided_at(&take(spec()), &held, DEADLINE.plus(1));
    assert_eq!((again.writes.len(), again.events), (0, first.events));
    let refused = decided(&take(LaunchSpec { private_ip: Some("x".into()), ..spec() }), &facts());
    let held = Facts { receipt: Some(receipt(&refused)), ..facts() };
    let again = decided(&take(spec()), &held);
    assert_eq!((again.writes.len(), again.events), (0, refused.events));
}

#[test]
fn a_take_after_its_deadline_is_refused_and_an_older_one_does_nothing() {
    let late = decided_at(&take(spec()), &facts(), DEADLINE.plus(1));
    assert_eq!(refusal(&late).0, code::LAUNCH_TIMEOUT);
    let newer = decided(&allocated(&instance(1), 2, ZONE, spec()), &facts());
    let held = Facts { receipt: Some(receipt(&newer)), ..facts() };
    assert_eq!(decided(&take(spec()), &held), Decision::nothing());
}

#[test]
fn a_termination_gives_the_address_back_for_good_and_it_rests() {
    let facts = Facts { blocks: vec![block(&[9], &[])], ..facts() };
    let first = decided(&take(spec()), &facts);
    let leased = apply(first.writes[1].action.clone(), facts.blocks[0].item.clone());
    let held = Facts {
        receipt: Some(receipt(&first)),
        blocks: vec![Block { number: 0, item: leased.clone() }],
        ..Facts::default()
    };
    let back = decided(&withdrawn(&instance(1), 1, Outcome::Terminate), &held);
    let after = receipt(&back);
    assert_eq!((after.answer, after.claim.len()), (Answer::GivenBackForGood, 0));
    assert!(matches!(&back.events[0].data, Data::NetworkReleased(back) if back.for_good));
    assert_eq!(back.writes.len(), 3, "the receipt, the block, and its summary");
    let block = apply(back.writes[1].action.clone(), leased).expect("a block");
    assert_eq!(block.number("r9"), Some(NOW.plus(REST_MS).0));
    assert_eq!(block.text("s9"), None);
}

#[test]
fn a_termination_answers_also_where_nothing_is_held_and_then_bars_the_take() {
    let back = decided(&withdrawn(&instance(1), 1, Outcome::Terminate), &Facts::default());
    assert_eq!(back.writes.len(), 1);
    assert!(matches!(&back.events[0].data, Data::NetworkReleased(back) if back.for_good));
    let ended = Facts { receipt: Some(receipt(&back)), ..facts() };
    for late in [take(spec()), allocated(&instance(1), 2, ZONE, spec())] {
        let again = decided(&late, &ended);
        assert_eq!(again.writes.len(), 0);
        assert!(matches!(&again.events[0].data, Data::NetworkReleased(back) if back.for_good));
    }
}

#[test]
fn a_stop_a_replacement_and_what_is_not_its_own_change_nothing() {
    let first = decided(&take(spec()), &facts());
    let held = Facts { receipt: Some(receipt(&first)), ..facts() };
    for outcome in [Outcome::Stop, Outcome::Replace] {
        assert_eq!(decided(&withdrawn(&instance(1), 1, outcome), &held), Decision::nothing());
    }
    let reason = eventplane_domain::Reason::new(code::USER_SHUTDOWN, "asked for");
    let other = Data::InstanceTerminationRequested(TerminationRequested { reason });
    assert_eq!(decided(&event(&instance(1), 1, other), &held), Decision::nothing());
}
