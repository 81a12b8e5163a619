//! What people do with subnets, route tables and security groups.
//!
//! A call answers with what it made, or refuses with a code of EC2 and a sentence that says what
//! would be right; a fault means that the store could not answer. Checks and writes are one
//! transaction, so that two people at once never leave what neither of them was allowed to make.
//!
//! Source of the codes: "Error codes for the Amazon EC2 API", EC2 API reference.

pub mod route_tables;
pub mod security_groups;
pub mod subnets;

use crate::TABLE;
use eventplane_domain::Reason;
use eventplane_engine::{Fault, Ports};
use eventplane_store::{Failed, Item, Key, Query, Store, TransactError, Write};
use ipnet::Ipv4Net;

/// How often a call is tried when others change the same things at the same moment.
const TRIES_MAX: usize = 8;
/// How many items a page of a query has.
const PAGE_ITEMS: usize = 100;
/// How much of a bad value an answer repeats, in characters.
const QUOTED_MAX: usize = 64;

/// Something is still needed by something else.
const DEPENDENCY: &str = "DependencyViolation";
/// Somebody else is changing the same thing.
const INCORRECT_STATE: &str = "IncorrectState";
/// It can never be deleted.
const CANNOT_DELETE: &str = "CannotDelete";
/// A value is not one of those that are possible.
const INVALID_VALUE: &str = "InvalidParameterValue";

/// A new id: 11 hex digits of milliseconds and 6 random ones, as an instance's.
fn fresh_id(ports: &Ports, prefix: &str) -> String {
    let ms = ports.clock.now().0.max(0) & 0xfff_ffff_ffff;
    format!("{prefix}{ms:011x}{:06x}", ports.chance.draw() & 0xff_ffff)
}

/// A word that no other call has, to tell whose mark it is.
fn token(ports: &Ports) -> String {
    format!("{:016x}", ports.chance.draw())
}

fn quoted(text: &str) -> String {
    let start: String = text.chars().take(QUOTED_MAX).collect();
    format!("`{start}`")
}

/// Refuses what cannot be an id: `prefix` and 17 hex digits.
fn check_id(text: &str, prefix: &str, code: &str) -> Result<(), Reason> {
    let is_hex = |digits: &str| {
        digits.len() == 17 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if text.strip_prefix(prefix).is_some_and(is_hex) {
        return Ok(());
    }
    let message =
        format!("{} is not `{prefix}` and 17 hexadecimal digits (0-9, a-f)", quoted(text));
    Err(Reason::new(code, message))
}

/// Reads a block of addresses. One whose address has bits behind the prefix is made plain, as
/// `100.68.0.18/18` becomes `100.68.0.0/18`.
///
/// Source: "SecurityGroupRuleRequest", EC2 API reference.
fn cidr(text: &str, field: &str) -> Result<Ipv4Net, Reason> {
    let plain = |cidr: Ipv4Net| cidr.trunc();
    text.parse().map(plain).map_err(|_| {
        let message =
            format!("`{field}`: {} is not an IPv4 block such as 10.0.0.0/24", quoted(text));
        Reason::new(INVALID_VALUE, message)
    })
}

/// All items of a query, page by page.
async fn all(store: &dyn Store, mut query: Query) -> Result<Vec<(Key, Item)>, Fault> {
    let mut items = Vec::new();
    loop {
        let page = store.query(&query).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(items),
        }
    }
}

fn partition(partition: String, prefix: &str) -> Query {
    Query::partition(TABLE.name, partition, PAGE_ITEMS).prefix(prefix)
}

/// Writes, or tells which conditions did not hold.
async fn write(store: &dyn Store, writes: Vec<Write>) -> Result<Result<(), Vec<Failed>>, Fault> {
    match store.transact(writes).await {
        Ok(()) => Ok(Ok(())),
        Err(TransactError::ConditionFailed(failed)) => Ok(Err(failed)),
        Err(TransactError::Fault(fault)) => Err(fault.into()),
    }
}

fn contended(key: &Key) -> Fault {
    Fault::Contention { tries: TRIES_MAX, contended: key.to_string() }
}
