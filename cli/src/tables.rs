//! The tables that people see.

use crate::show::{Ink, Screen, text_at};
use serde_json::Value;

fn at(values: &[Value], row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    values.iter().map(row).collect()
}

/// Instances, one a line, and below them why they are in their states, each reason once.
pub(crate) fn instances(screen: &Screen, instances: &[Value]) -> String {
    if instances.is_empty() {
        return "no instances".to_owned();
    }
    let mut reasons: Vec<String> = Vec::new();
    let mut row = |instance: &Value| {
        let why = why(instance);
        let at = reasons.iter().position(|reason| *reason == why).unwrap_or(reasons.len());
        if at == reasons.len() && !why.is_empty() {
            reasons.push(why.clone());
        }
        vec![
            text_at(instance, "instance_id"),
            text_at(instance, "instance_type"),
            text_at(instance, "state"),
            text_at(instance, "placement/zone"),
            text_at(instance, "placement/host"),
            text_at(instance, "private_ip"),
            if why.is_empty() { why } else { format!("({})", at + 1) },
        ]
    };
    let rows = instances.iter().map(&mut row).collect();
    let headings = ["INSTANCE", "TYPE", "STATE", "ZONE", "HOST", "ADDRESS", "WHY"];
    let headings = if reasons.is_empty() { &headings[..6] } else { &headings[..] };
    let mut text = screen.table(headings, rows);
    for (index, reason) in reasons.iter().enumerate() {
        text += "\n";
        text += &screen.wrapped(&format!("({}) {reason}", index + 1), 4);
    }
    text
}

/// Why an instance is in its state: what it waits for, or the state's reason.
pub(crate) fn why(instance: &Value) -> String {
    let awaits = text_at(instance, "pending/awaits");
    if awaits != "-" {
        return format!("waits for {}", awaits.replace(',', ", "));
    }
    reason(&instance["state_reason"])
}

/// A reason as its code and its message.
pub(crate) fn reason(reason: &Value) -> String {
    match (reason["code"].as_str(), reason["message"].as_str()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => String::new(),
    }
}

/// A size in thousands, or in 1,024s, with one digit: rounded down, so that free is never said of
/// what is taken.
fn in_units(value: &Value, unit: u64) -> String {
    let Some(size) = value.as_u64() else { return "-".to_owned() };
    match (size / unit, size % unit * 10 / unit) {
        (whole, 0) if size % unit == 0 => whole.to_string(),
        (whole, tenths) => format!("{whole}.{tenths}"),
    }
}

/// What is free of what there is: vCPUs, GiB, Gbit/s and GPUs.
fn shares(value: &Value) -> [String; 4] {
    [("vcpus", 1), ("memory_mib", 1024), ("network_mbps", 1000), ("gpus", 1)].map(|(what, unit)| {
        let [free, total] = ["free", "total"].map(|side| in_units(&value[side][what], unit));
        if total == "0" { "-".to_owned() } else { format!("{free}/{total}") }
    })
}

/// The headings of [`shares`].
const SHARES: [&str; 4] = ["VCPUS FREE", "GIB FREE", "GBPS FREE", "GPUS FREE"];

/// Hosts, one a line.
pub(crate) fn hosts(screen: &Screen, hosts: &[Value]) -> String {
    if hosts.is_empty() {
        return "no hosts".to_owned();
    }
    let row = |host: &Value| {
        let (zone, rack) = (text_at(host, "zone"), text_at(host, "rack"));
        // A rack that is named after its zone is not named after it twice.
        let short = rack.strip_prefix(&zone).and_then(|rest| rest.strip_prefix('-'));
        let rack = short.map(str::to_owned).unwrap_or(rack);
        let mut row = vec![text_at(host, "host_id"), zone, rack, text_at(host, "state")];
        row.extend(shares(host));
        if let (Some(gpus), Some(model)) = (row.last_mut(), host["gpu_model"].as_str()) {
            *gpus += &format!(" {model}");
        }
        row
    };
    let headings = [&["HOST", "ZONE", "RACK", "STATE"][..], &SHARES].concat();
    screen.table(&headings, at(hosts, row))
}

/// What there is room for: zones, then the volume pools of which something is taken.
pub(crate) fn capacity(screen: &Screen, capacity: &Value) -> String {
    let list = |name: &str| capacity[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let zone = |zone: &Value| {
        let count = |state: &str| zone[state].as_u64().filter(|count| *count > 0);
        let states = ["active", "draining", "dead"];
        let hosts = states.iter().filter_map(|state| Some(format!("{} {state}", count(state)?)));
        let mut row = vec![text_at(zone, "zone"), hosts.collect::<Vec<_>>().join(", ")];
        row.extend(shares(zone));
        row
    };
    let headings = [&["ZONE", "HOSTS"][..], &SHARES].concat();
    let zones = screen.table(&headings, at(list("zones"), zone));
    format!("{zones}\n\n{}", pools(screen, list("pools")))
}

fn pools(screen: &Screen, pools: &[Value]) -> String {
    let share = |pool: &Value, what: &str| {
        let [free, total] = ["free", "total"].map(|side| text_at(pool, &format!("{side}_{what}")));
        format!("{free}/{total}")
    };
    let is_whole = |pool: &Value| {
        let is_free = |what: &str| pool[format!("free_{what}")] == pool[format!("total_{what}")];
        is_free("gib") && is_free("iops")
    };
    let (whole, taken): (Vec<Value>, Vec<Value>) = pools.iter().cloned().partition(is_whole);
    let row = |pool: &Value| {
        vec![
            text_at(pool, "zone"),
            text_at(pool, "volume_type"),
            share(pool, "gib"),
            text_at(pool, "largest_free_gib"),
            share(pool, "iops"),
        ]
    };
    let headings = ["ZONE", "VOLUMES", "GIB FREE", "LARGEST", "IOPS FREE"];
    let table = if taken.is_empty() {
        String::new()
    } else {
        format!("{}\n", screen.table(&headings, at(&taken, row)))
    };
    let mut kinds: Vec<String> = whole.iter().map(|pool| text_at(pool, "volume_type")).collect();
    kinds.sort();
    kinds.dedup();
    let kinds = kinds.iter().map(|kind| {
        let of = whole.iter().filter(|pool| pool["volume_type"] == **kind);
        let gib: u64 = of.filter_map(|pool| pool["total_gib"].as_u64()).sum();
        format!("{gib} GiB of {kind}")
    });
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let other = if taken.is_empty() { "" } else { "other " };
    match whole.len() {
        0 => table.trim_end().to_owned(),
        all => {
            let rest = format!("{all} {other}volume pools, all free: {kinds}");
            format!("{table}{}", screen.wrapped(&rest, 0))
        }
    }
}

/// The entries of an audit record, and whether they are as they were written.
pub(crate) fn audit(screen: &Screen, audit: &Value) -> String {
    let entries = audit["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = ["deed", "generation", "source", "request"];
    let row = |entry: &Value| names.map(|name| text_at(entry, name)).to_vec();
    let table = screen.table(&["DEED", "RUN", "SOURCE", "REQUEST"], at(entries, row));
    let verdict = match audit["verified"].as_bool() {
        Some(true) => screen.ink(Ink::Green, "verified"),
        _ => screen.ink(Ink::Red, "not verified"),
    };
    format!("{table}\n{verdict}: the newest hash is\n{}", text_at(audit, "head"))
}

/// Instance types, one a line.
pub(crate) fn types(screen: &Screen, types: &[Value]) -> String {
    let names = ["instance_type", "vcpus", "memory_mib", "network_mbps", "architecture"];
    let row = |kind: &Value| {
        let mut row: Vec<String> = names.map(|name| text_at(kind, name)).into();
        let count = text_at(kind, "gpus/count");
        let gpus = format!("{count} {}", text_at(kind, "gpus/model"));
        row.push(if count == "-" { count } else { gpus });
        row
    };
    let headings = ["TYPE", "VCPUS", "MIB", "MBPS", "PROCESSORS", "GPUS"];
    screen.table(&headings, at(types, row))
}

/// Breakers, one a line.
pub(crate) fn breakers(screen: &Screen, breakers: &[Value]) -> String {
    let names = ["function", "state", "since", "waiting"];
    let row = |breaker: &Value| names.map(|name| text_at(breaker, name)).to_vec();
    screen.table(&["FUNCTION", "STATE", "SINCE", "WAITING"], at(breakers, row))
}

/// Dead letters, one a line.
pub(crate) fn letters(screen: &Screen, letters: &[Value]) -> String {
    if letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let row = |letter: &Value| {
        vec![
            text_at(letter, "id"),
            text_at(letter, "function"),
            text_at(letter, "received"),
            text_at(letter, "at"),
            text_at(letter, "message/detail-type"),
            text_at(letter, "message/detail/metadata/subject"),
            text_at(letter, "reason"),
        ]
    };
    let headings = ["ID", "FUNCTION", "DELIVERED", "AT", "EVENT", "SUBJECT", "REASON"];
    screen.table(&headings, at(letters, row))
}

/// All of one thing: a name and its value a line, what is nested under its path.
pub(crate) fn whole(screen: &Screen, value: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    screen.table(
        &["NAME", "VALUE"],
        rows.into_iter().map(|(name, value)| vec![name, value]).collect(),
    )
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let under =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| flatten(&under(name), value, rows));
        }
        Value::Array(all) if all.iter().any(|one| !one.is_string()) => {
            for (index, value) in all.iter().enumerate() {
                flatten(&under(&index.to_string()), value, rows);
            }
        }
        _ => rows.push((path.to_owned(), text_at(value, ""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn screen() -> Screen {
        Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()))
    }

    #[test]
    fn a_reason_that_instances_share_is_said_once() {
        let one = |id: &str, code: &str| {
            json!({"instance_id": id, "state": "terminated",
            "state_reason": {"code": code, "message": "m"}})
        };
        let text = instances(&screen(), &[one("i-1", "a"), one("i-2", "b"), one("i-3", "a")]);
        let whys: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(whys[..4], ["WHY", "(1)", "(2)", "(1)"]);
        assert!(text.ends_with("\n(1) a: m\n(2) b: m"), "{text}");
        let running = json!({"instance_id": "i-4", "state": "running"});
        assert!(!instances(&screen(), &[running]).contains("WHY"), "nothing to say");
        assert_eq!(instances(&screen(), &[]), "no instances");
    }

    #[test]
    fn what_is_free_is_rounded_down() {
        let cases = [(1024, "1"), (1536, "1.5"), (1023, "0.9"), (393_215, "383.9"), (1025, "1.0")];
        for (mib, right) in cases {
            assert_eq!(in_units(&json!(mib), 1024), right, "{mib}");
        }
        assert_eq!(in_units(&Value::Null, 1024), "-");
    }

    #[test]
    fn only_pools_of_which_something_is_taken_have_a_line() {
        let pool = |zone: &str, free: u64| {
            json!({"zone": zone, "volume_type": "gp3", "free_gib": free, "total_gib": 9,
                "free_iops": 3, "total_iops": 3, "largest_free_gib": free})
        };
        let all_free = capacity(&screen(), &json!({"pools": [pool("a", 9), pool("b", 9)]}));
        assert!(all_free.ends_with("\n2 volume pools, all free: 18 GiB of gp3"), "{all_free}");
        let taken = capacity(&screen(), &json!({"pools": [pool("a", 9), pool("b", 8)]}));
        assert!(taken.contains("b     gp3      8/9"), "{taken}");
        assert!(taken.ends_with("\n1 other volume pools, all free: 9 GiB of gp3"), "{taken}");
    }
}
