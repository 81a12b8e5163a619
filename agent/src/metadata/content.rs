//! What stands under which path: pure.
//!
//! The categories are those of "Instance metadata categories" (EC2 user guide), as far as there is
//! such a thing here: there are no public addresses, no VPCs and no regions.

use super::facts::{Credentials, Details, InstanceFacts};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use eventplane_domain::{Millis, Network};
use serde_json::{Value, json};

/// The versions that may be asked for, besides `latest`: the first one and those that cloud-init
/// asks for. All have the same content, while EC2's have what there was on their day.
pub(crate) const VERSIONS: [&str; 5] =
    ["1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23"];
const LATEST: &str = "latest";
/// Where credentials stand: the one thing whose time can be over.
const CREDENTIALS: &str = "meta-data/iam/security-credentials/";
/// What a tag's key may have besides letters and digits to stand under a path of its own.
///
/// Source: "View tags for your EC2 instances using instance metadata", EC2 user guide.
const TAG_KEY_ALSO: &str = "+-=.,_:@";

/// Why a path has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There is no such thing.
    Path,
    /// The credentials there have expired, at this moment.
    Expired(Millis),
}

/// What stands under a path.
enum Node {
    Text(String),
    List(Vec<(String, Node)>),
}

/// What an instance is answered at `path` (`/latest/meta-data/…`, decoded) at this moment. A list
/// is answered with its entries, one a line, those that are lists themselves with a `/`; what is
/// none has no path that ends with `/`.
///
/// # Errors
/// [`Missing`] when nothing stands there.
pub fn content(facts: &InstanceFacts, path: &str, now: Millis) -> Result<String, Missing> {
    let path = path.strip_prefix('/').ok_or(Missing::Path)?;
    if path.is_empty() {
        return Ok([VERSIONS.as_slice(), &[LATEST]].concat().join("\n"));
    }
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    if version != LATEST && !VERSIONS.contains(&version) {
        return Err(Missing::Path);
    }
    let credentials = facts.details.credentials.as_ref();
    let name = rest.strip_prefix(CREDENTIALS).map(|name| name.strip_suffix('/').unwrap_or(name));
    let asked = credentials.filter(|its| name == Some(its.role.as_str()));
    if let Some(expired) = asked.filter(|its| its.expires_at <= now) {
        return Err(Missing::Expired(expired.expires_at));
    }
    let whole = Node::List(whole(facts));
    // AWS's SDK for Python asks for single values, such as its zone, with a slash behind them too.
    let names = rest.strip_suffix('/').unwrap_or(rest);
    let mut node = &whole;
    for name in names.split('/').filter(|_| !names.is_empty()) {
        let Node::List(entries) = node else { return Err(Missing::Path) };
        let found = entries.iter().find(|(entry, _)| entry == name);
        node = &found.ok_or(Missing::Path)?.1;
    }
    match node {
        Node::Text(text) => Ok(text.clone()),
        Node::List(entries) => Ok(entries.iter().map(entry).collect::<Vec<_>>().join("\n")),
    }
}

/// An entry of a list, as the list shows it.
fn entry((name, node): &(String, Node)) -> String {
    match node {
        Node::Text(_) => name.clone(),
        Node::List(_) => format!("{name}/"),
    }
}

fn text(name: &str, text: impl Into<String>) -> (String, Node) {
    (name.to_owned(), Node::Text(text.into()))
}

fn list(name: &str, entries: Vec<(String, Node)>) -> (String, Node) {
    (name.to_owned(), Node::List(entries))
}

fn whole(facts: &InstanceFacts) -> Vec<(String, Node)> {
    let mut whole = vec![
        list("dynamic", vec![list("instance-identity", identity(&facts.details))]),
        list("meta-data", meta_data(facts)),
    ];
    whole.extend(facts.details.user_data.as_ref().map(|data| text("user-data", data)));
    whole
}

fn meta_data(facts: &InstanceFacts) -> Vec<(String, Node)> {
    let InstanceFacts { key, launch, details } = facts;
    let (spec, network) = (&launch.spec, &launch.network);
    let placement = vec![
        text("availability-zone", &launch.placement.zone),
        text("host-id", launch.placement.host.as_str()),
    ];
    let interfaces = vec![list("macs", vec![list(&network.mac, interface(facts))])];
    let mut entries = vec![
        text("ami-id", &spec.image_id),
        text("ami-launch-index", spec.launch_index.to_string()),
        list("block-device-mapping", devices(facts)),
        text("hostname", host_name(network)),
    ];
    entries.extend(details.credentials.as_ref().map(|credentials| {
        let account = key.tenant.as_str();
        list("iam", iam(account, credentials))
    }));
    entries.extend([
        text("instance-id", key.instance_id.as_str()),
        text("instance-type", &spec.instance_type),
        text("local-hostname", host_name(network)),
        text("local-ipv4", &network.private_ip),
        text("mac", &network.mac),
        list("network", vec![list("interfaces", interfaces)]),
        list("placement", placement),
        text("reservation-id", &spec.reservation_id),
        // EC2 has names here; what the host knows of a group is its id.
        text("security-groups", network.security_group_ids.join("\n")),
    ]);
    let tags = tags(details);
    if !tags.is_empty() {
        entries.push(list("tags", vec![list("instance", tags)]));
    }
    entries
}

/// The instance's one interface.
fn interface(facts: &InstanceFacts) -> Vec<(String, Node)> {
    let network = &facts.launch.network;
    vec![
        text("device-number", "0"),
        text("interface-id", &network.interface_id),
        text("local-hostname", host_name(network)),
        text("local-ipv4s", &network.private_ip),
        text("mac", &network.mac),
        text("owner-id", facts.key.tenant.as_str()),
        text("security-group-ids", network.security_group_ids.join("\n")),
        text("security-groups", network.security_group_ids.join("\n")),
        text("subnet-id", &network.subnet_id),
        text("subnet-ipv4-cidr-block", &network.cidr),
    ]
}

/// The name by its address, in the form that goes without a region.
///
/// Source: "Amazon EC2 instance hostname types", EC2 user guide.
fn host_name(network: &Network) -> String {
    format!("ip-{}.ec2.internal", network.private_ip.replace('.', "-"))
}

/// The root volume's device, under both of its names, and those of the data volumes.
fn devices(facts: &InstanceFacts) -> Vec<(String, Node)> {
    let devices = facts.launch.volumes.iter().map(|volume| volume.spec.device.as_str());
    let named = devices.enumerate().flat_map(|(index, device)| match index {
        0 => vec![text("ami", device), text("root", device)],
        n => vec![text(&format!("ebs{n}"), device)],
    });
    let mut entries: Vec<_> = named.collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries
}

fn tags(details: &Details) -> Vec<(String, Node)> {
    let may_stand = |key: &str| {
        !["", ".", "..", "_index"].contains(&key)
            && key.chars().all(|c| c.is_ascii_alphanumeric() || TAG_KEY_ALSO.contains(c))
    };
    let tags = details.tags.iter().filter(|(key, _)| may_stand(key));
    tags.map(|(key, value)| text(key, value)).collect()
}

/// The role, and its credentials in the form in which AWS's libraries read them ("Retrieve security
/// credentials from instance metadata", EC2 user guide).
fn iam(account: &str, credentials: &Credentials) -> Vec<(String, Node)> {
    let Credentials { role, access_key_id, secret_access_key, token, updated_at, expires_at } =
        credentials;
    let info = json!({
        "Code": "Success",
        "LastUpdated": moment(*updated_at),
        "InstanceProfileArn": format!("arn:eventplane:iam::{account}:instance-profile/{role}"),
    });
    let secret = json!({
        "Code": "Success",
        "LastUpdated": moment(*updated_at),
        "Type": "AWS-HMAC",
        "AccessKeyId": access_key_id,
        "SecretAccessKey": secret_access_key,
        "Token": token,
        "Expiration": moment(*expires_at),
    });
    vec![
        text("info", pretty(&info)),
        list("security-credentials", vec![text(role, pretty(&secret))]),
    ]
}

/// The signed document. EC2 publishes its certificates elsewhere; here the keys, and which of them
/// it was, stand beside the signature.
fn identity(details: &Details) -> Vec<(String, Node)> {
    let document = &details.document;
    vec![
        text("document", &document.document),
        text("key-id", &document.key_id),
        text("keys", pretty(&json!({ "keys": details.keys }))),
        text("signature", base64_of_hex(&document.signature)),
    ]
}

fn pretty(json: &Value) -> String {
    format!("{json:#}")
}

/// Such as `2026-11-24T10:00:00Z`.
fn moment(at: Millis) -> String {
    let seconds = at.0.div_euclid(1000);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// What is no hex stays as it is: whoever verifies it sees that it is no signature.
fn base64_of_hex(hex: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    bytes.map_or(hex.to_owned(), |bytes| BASE64_STANDARD.encode(bytes))
}
