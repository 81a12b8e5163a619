//! From the words of a launch to the body of its request.

use crate::args::Launch;
use crate::problem::Problem;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The largest file that is read: more than any request may hold, so that the plane says why.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A tag, from KEY=VALUE.
pub(crate) fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a tag is KEY=VALUE".to_owned()),
    }
}

/// A data volume, from its size in GiB or from names and values.
pub(crate) fn volume(text: &str) -> Result<Value, String> {
    if let Ok(size_gib) = text.parse::<u32>() {
        return Ok(json!({ "size_gib": size_gib }));
    }
    let right = "a volume is GIB, or NAME=VALUE,… with size_gib, volume_type, iops, \
                 device and delete_on_termination";
    let mut volume = Map::new();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or(right)?;
        let number = || value.parse::<u32>().map_err(|_| format!("{name} is a whole number"));
        let value = match name {
            "size_gib" | "iops" => json!(number()?),
            "volume_type" | "device" => json!(value),
            "delete_on_termination" => {
                let flag = value.parse::<bool>();
                json!(flag.map_err(|_| format!("{name} is true or false"))?)
            }
            _ => return Err(format!("`{name}`: {right}")),
        };
        volume.insert(name.to_owned(), value);
    }
    Ok(Value::Object(volume))
}

/// A file of text.
pub(crate) fn text_of(path: &Path) -> Result<String, Problem> {
    let because = |why: String| Problem::Input(format!("cannot read {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| because(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(because(format!("it has {size} bytes, and at most {FILE_BYTES_MAX} are read")));
    }
    std::fs::read_to_string(path).map_err(|error| because(error.to_string()))
}

/// The body of `POST /v1/instances`: only what was asked for.
pub(crate) fn launch(launch: &Launch) -> Result<Value, Problem> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let text = |value: &Option<String>| value.as_ref().map(|value| json!(value));
    let user_data = launch.user_data.as_deref().map(text_of).transpose()?;
    let tags: Map<String, Value> =
        launch.tags.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    put("instance_type", Some(json!(launch.instance_type)));
    put("count", launch.count.map(|count| json!(count)));
    put("zone", text(&launch.zone));
    put("subnet_id", text(&launch.subnet));
    put("private_ip", text(&launch.private_ip));
    put("image_id", text(&launch.image));
    put("role", text(&launch.role));
    put("client_token", text(&launch.client_token));
    put("strategy", text(&launch.strategy));
    put("user_data", user_data.map(Value::String));
    let groups = &launch.security_groups;
    put("security_group_ids", (!groups.is_empty()).then(|| json!(groups)));
    put("volumes", (!launch.volumes.is_empty()).then(|| json!(launch.volumes)));
    put("tags", (!tags.is_empty()).then_some(Value::Object(tags)));
    put("termination_protection", launch.termination_protection.then_some(Value::Bool(true)));
    put("dry_run", launch.dry_run.then_some(Value::Bool(true)));
    Ok(Value::Object(body))
}
