//! Which parameters the template refuses together.

use crate::plane::{Plane, each};
use serde_json::Value;
use std::collections::BTreeMap;
use xtask::template::VARIANTS;

const PEOPLE: [&str; 3] = ["Authorization=JWT", "JwtIssuer=https://issuer", "JwtAudience=plane"];
const HOSTS: [&str; 3] = ["HostAuthorization=JWT", "JwtIssuer=https://issuer", "JwtAudience=plane"];

type Parameters<'p> = BTreeMap<&'p str, &'p str>;

/// What a rule's function says: those that the template uses.
fn holds(function: &Value, parameters: &Parameters<'_>) -> bool {
    let (name, arguments) = function.as_object().and_then(|of| of.iter().next()).expect("one");
    let text = |of: &Value| match of["Ref"].as_str() {
        Some(parameter) => parameters[parameter].to_owned(),
        None => of.as_str().expect("a text").to_owned(),
    };
    let mut each = each(arguments).iter();
    match &**name {
        "Fn::Equals" => text(&arguments[0]) == text(&arguments[1]),
        "Fn::Not" => !holds(&arguments[0], parameters),
        "Fn::Or" => each.any(|of| holds(of, parameters)),
        "Fn::And" => each.all(|of| holds(of, parameters)),
        other => panic!("{other}: not known here"),
    }
}

/// Whether a stack with these parameters, the others as they are by default, is refused.
fn is_refused(plane: &Plane, given: &[&str]) -> bool {
    let declared = plane.0["Parameters"].as_object().expect("parameters");
    let default = |of| Value::as_str(of).unwrap_or_default();
    let mut parameters: Parameters<'_> =
        declared.iter().map(|(name, of)| (&**name, default(&of["Default"]))).collect();
    parameters.extend(given.iter().filter_map(|given| given.split_once('=')));
    plane.0["Rules"].as_object().into_iter().flatten().any(|(_, rule)| {
        let applies = rule["RuleCondition"].is_null() || holds(&rule["RuleCondition"], &parameters);
        let asserted = each(&rule["Assertions"]);
        applies && !asserted.iter().all(|of| holds(&of["Assert"], &parameters))
    })
}

pub(crate) fn together(plane: &Plane) -> Vec<String> {
    let (people, hosts) = (&PEOPLE[..], &HOSTS[..]);
    let mut wrong = Vec::new();
    for (given, refused) in [
        (vec![], false),
        ([people, &["TenantClaim=tenant"]].concat(), false),
        ([people, &["TenantClaim=*"]].concat(), false),
        // Any token would be let in, as the one tenant.
        (people.to_vec(), true),
        ([people, &["TenantClaim="]].concat(), true),
        // Nobody's token is looked at.
        (vec!["TenantClaim=tenant"], true),
        (vec!["TenantClaim=*"], false),
        ([hosts, &["TenantClaim=tenant"]].concat(), true),
        ([hosts, &["TenantClaim=*"]].concat(), false),
        // Every host would be a tenant, and refused.
        ([people, hosts, &["TenantClaim=tenant"]].concat(), true),
        ([people, hosts, &["TenantClaim=*"]].concat(), false),
        (hosts.to_vec(), true),
        // Whose tokens, and for whom?
        ([&people[..2], &["TenantClaim=tenant"]].concat(), true),
        ([&people[..1], &people[2..], &["TenantClaim=tenant"]].concat(), true),
        ([&hosts[..2], &["TenantClaim=*"]].concat(), true),
        (vec![hosts[0], hosts[2], "TenantClaim=*"], true),
    ] {
        if is_refused(plane, &given) != refused {
            let does = if refused { "takes" } else { "refuses" };
            wrong.push(format!("the template {does} {given:?}"));
        }
    }
    for (name, given) in VARIANTS {
        if is_refused(plane, given) {
            wrong.push(format!("the template refuses what {name} has"));
        }
    }
    wrong
}
