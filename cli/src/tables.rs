//! The tables that people see.

use crate::show::{Screen, text_at};
use serde_json::Value;

fn at(values: &[Value], row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    values.iter().map(row).collect()
}

/// Instances, one a line.
pub(crate) fn instances(screen: &Screen, instances: &[Value]) -> String {
    let row = |instance: &Value| {
        vec![
            text_at(instance, "instance_id"),
            text_at(instance, "instance_type"),
            text_at(instance, "state"),
            text_at(instance, "placement/zone"),
            text_at(instance, "placement/host"),
            text_at(instance, "private_ip"),
            text_at(instance, "launch_time"),
            why(instance),
        ]
    };
    let headings = ["INSTANCE", "TYPE", "STATE", "ZONE", "HOST", "ADDRESS", "LAUNCHED", "WHY"];
    screen.table(&headings, at(instances, row))
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

/// A share of a total, as "free of total".
fn share(value: &Value, what: &str) -> String {
    let [free, total] = ["free", "total"].map(|side| text_at(value, &format!("{side}/{what}")));
    format!("{free}/{total}")
}

/// The headings of [`share`]s of hosts.
const SHARES: [&str; 4] = ["vcpus", "memory_mib", "network_mbps", "gpus"];

/// Hosts, one a line.
pub(crate) fn hosts(screen: &Screen, hosts: &[Value]) -> String {
    let row = |host: &Value| {
        let mut row = vec![
            text_at(host, "host_id"),
            text_at(host, "zone"),
            text_at(host, "rack"),
            text_at(host, "state"),
        ];
        row.extend(SHARES.iter().map(|what| share(host, what)));
        row.push(text_at(host, "gpu_model"));
        row
    };
    let headings = [
        "HOST",
        "ZONE",
        "RACK",
        "STATE",
        "VCPUS FREE",
        "MIB FREE",
        "MBPS FREE",
        "GPUS FREE",
        "GPU",
    ];
    screen.table(&headings, at(hosts, row))
}

/// What there is room for: zones, then volume pools.
pub(crate) fn capacity(screen: &Screen, capacity: &Value) -> String {
    let list = |name: &str| capacity[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let zone = |zone: &Value| {
        let mut row: Vec<String> =
            ["zone", "hosts", "active", "draining", "dead"].map(|name| text_at(zone, name)).into();
        row.extend(SHARES.iter().map(|what| share(zone, what)));
        row
    };
    let headings = [
        "ZONE",
        "HOSTS",
        "ACTIVE",
        "DRAINING",
        "DEAD",
        "VCPUS FREE",
        "MIB FREE",
        "MBPS FREE",
        "GPUS FREE",
    ];
    let zones = screen.table(&headings, at(list("zones"), zone));
    let pool = |pool: &Value| {
        let of = |what: &str| {
            let [free, total] =
                ["free", "total"].map(|side| text_at(pool, &format!("{side}_{what}")));
            format!("{free}/{total}")
        };
        vec![
            text_at(pool, "zone"),
            text_at(pool, "volume_type"),
            of("gib"),
            text_at(pool, "largest_free_gib"),
            of("iops"),
        ]
    };
    let headings = ["ZONE", "VOLUMES", "GIB FREE", "LARGEST", "IOPS FREE"];
    let pools = screen.table(&headings, at(list("pools"), pool));
    format!("{zones}\n\n{pools}")
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

/// Dead letters, one a line.
pub(crate) fn letters(screen: &Screen, letters: &[Value]) -> String {
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
