//! From the text of `host.toml` to what it means.

use super::{Capacity, ConfigError, DriverKind, HostConfig, Image, Restart, RestartPolicy};
use crate::wire::Gpus;
use eventplane_domain::HostId;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// Three of the longest pass before a host counts as silent, which is after 180 s.
const HEARTBEAT_S: RangeInclusive<u64> = 1..=60;
/// The control plane holds an answer back for no longer.
const POLL_WAIT_S: RangeInclusive<u64> = 0..=30;
/// Up to a day.
const MILLISECONDS: RangeInclusive<u64> = 1..=86_400_000;
const SIZE: RangeInclusive<u32> = 1..=u32::MAX;
const DATA_DIR: &str = "/var/lib/eventplane";
const NAME: &str = "1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit";

/// The file, field by field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    host_id: Option<Spanned<String>>,
    zone: Option<Spanned<String>>,
    rack: Option<Spanned<String>>,
    driver: Option<DriverKind>,
    data_dir: Option<PathBuf>,
    volumes_dir: Option<PathBuf>,
    heartbeat_s: Option<Spanned<u64>>,
    poll_wait_s: Option<Spanned<u64>>,
    #[serde(default)]
    capacity: CapacityTable,
    #[serde(default)]
    restart: RestartTable,
    #[serde(default)]
    images: BTreeMap<Spanned<String>, Spanned<Image>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct CapacityTable {
    vcpus: Option<Spanned<u32>>,
    memory_mib: Option<Spanned<u32>>,
    network_mbps: Option<Spanned<u32>>,
    gpus: Option<GpusTable>,
    #[serde(default)]
    reserved_vcpus: u32,
    #[serde(default)]
    reserved_memory_mib: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GpusTable {
    model: Spanned<String>,
    count: u32,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RestartTable {
    policy: Option<RestartPolicy>,
    first_ms: Option<Spanned<u64>>,
    longest_ms: Option<Spanned<u64>>,
    calm_ms: Option<Spanned<u64>>,
    stop_grace_ms: Option<Spanned<u64>>,
}

/// Where a text is wrong: the byte, and in what.
struct Wrong(usize, String);

/// What `text`, the file at `path`, says of the machine called `host_name`.
pub(super) fn config(text: &str, path: &Path, host_name: &str) -> Result<HostConfig, ConfigError> {
    let wrong = |Wrong(at, wrong)| {
        let line = text[..at.min(text.len())].matches('\n').count() + 1;
        ConfigError::Wrong { path: path.to_owned(), line, wrong }
    };
    let missing = |what: String| ConfigError::Missing(path.to_owned(), what);
    let file: File = toml::from_str(text).map_err(|error| wrong(not_understood(text, &error)))?;
    let host_id = match file.host_id {
        Some(id) => HostId::parse(id.get_ref())
            .map_err(|error| wrong(Wrong(id.span().start, format!("`host_id`: {error}"))))?,
        None => HostId::parse(host_name).map_err(|error| {
            let so = "and `host_id` is not given: write `host_id = \"host-a\"`";
            missing(format!("the machine's host name {error}, {so}"))
        })?,
    };
    let zone = file.zone.ok_or_else(|| {
        let right = "write `zone = \"zone-a\"`, the zone that this host stands in";
        missing(format!("`zone` is missing: {right}"))
    })?;
    let driver = file.driver.unwrap_or(DriverKind::Process);
    if file.images.is_empty() && driver == DriverKind::Qemu {
        let right =
            "write `[images.default]` and below it the `disk` that every instance begins with";
        return Err(missing(format!("no image is named: {right}")));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let data_dir = folder.join(file.data_dir.as_deref().unwrap_or(Path::new(DATA_DIR)));
    let volumes_dir = file.volumes_dir.map(|volumes_dir| folder.join(volumes_dir));
    Ok(HostConfig {
        host_id,
        zone: name("zone", zone).map_err(wrong)?,
        rack: file
            .rack
            .map_or(Ok("rack-1".to_owned()), |rack| name("rack", rack))
            .map_err(wrong)?,
        driver,
        volumes_dir: volumes_dir.unwrap_or_else(|| data_dir.join("volumes")),
        data_dir,
        heartbeat_s: within("heartbeat_s", file.heartbeat_s, &HEARTBEAT_S)
            .map_err(wrong)?
            .unwrap_or(30),
        poll_wait_s: within("poll_wait_s", file.poll_wait_s, &POLL_WAIT_S)
            .map_err(wrong)?
            .unwrap_or(20),
        capacity: file.capacity.check().map_err(wrong)?,
        restart: file.restart.check().map_err(wrong)?,
        images: images(file.images, driver, folder).map_err(wrong)?,
    })
}

/// What the reader of TOML says, with the line that it says it of.
fn not_understood(text: &str, error: &toml::de::Error) -> Wrong {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[begin..].lines().next().unwrap_or_default().trim();
    Wrong(at, format!("{} (`{line}`)", error.message()))
}

fn name(field: &str, given: Spanned<String>) -> Result<String, Wrong> {
    // The same form as that of a host's id.
    match HostId::parse(given.get_ref()) {
        Ok(_) => Ok(given.into_inner()),
        Err(_) => {
            let wrong = format!("`{field}` has to have {NAME}, not be `{}`", given.get_ref());
            Err(Wrong(given.span().start, wrong))
        }
    }
}

fn within<N: PartialOrd + Copy + std::fmt::Display>(
    field: &str,
    given: Option<Spanned<N>>,
    range: &RangeInclusive<N>,
) -> Result<Option<N>, Wrong> {
    let Some(given) = given else { return Ok(None) };
    let n = *given.get_ref();
    if range.contains(&n) {
        return Ok(Some(n));
    }
    let (from, to) = (range.start(), range.end());
    Err(Wrong(given.span().start, format!("`{field}` has to be {from} to {to}, not {n}")))
}

impl CapacityTable {
    fn check(self) -> Result<Capacity, Wrong> {
        let gpus = |GpusTable { model, count }| {
            name("gpus.model", model).map(|model| Gpus { model, count })
        };
        Ok(Capacity {
            vcpus: within("vcpus", self.vcpus, &SIZE)?,
            memory_mib: within("memory_mib", self.memory_mib, &SIZE)?,
            network_mbps: within("network_mbps", self.network_mbps, &SIZE)?,
            gpus: self.gpus.map(gpus).transpose()?,
            reserved_vcpus: self.reserved_vcpus,
            reserved_memory_mib: self.reserved_memory_mib,
        })
    }
}

impl RestartTable {
    fn check(self) -> Result<Restart, Wrong> {
        let usual = Restart::default();
        let first_ms = within("first_ms", self.first_ms, &MILLISECONDS)?.unwrap_or(usual.first_ms);
        // A first wait above the usual longest one is the longest unless another is given.
        let longest_ms = within("longest_ms", self.longest_ms, &(first_ms..=*MILLISECONDS.end()))?;
        Ok(Restart {
            policy: self.policy.unwrap_or(usual.policy),
            first_ms,
            longest_ms: longest_ms.unwrap_or(usual.longest_ms.max(first_ms)),
            calm_ms: within("calm_ms", self.calm_ms, &MILLISECONDS)?.unwrap_or(usual.calm_ms),
            stop_grace_ms: within("stop_grace_ms", self.stop_grace_ms, &MILLISECONDS)?
                .unwrap_or(usual.stop_grace_ms),
        })
    }
}

fn images(
    given: BTreeMap<Spanned<String>, Spanned<Image>>,
    driver: DriverKind,
    folder: &Path,
) -> Result<BTreeMap<String, Image>, Wrong> {
    let mut images = BTreeMap::new();
    for (name, image) in given {
        let at = name.span().start;
        let name = name.into_inner();
        if !Image::is_name(&name) {
            let right = "`[images.default]` or the id of an image, such as `[images.\"ami-1\"]`";
            return Err(Wrong(at, format!("no image is called `{name}`: write {right}")));
        }
        let image = image.into_inner();
        if let Some(right) = image.lacks(driver) {
            let of = driver.name();
            return Err(Wrong(
                at,
                format!("the image `{name}` lacks, for the driver {of}, {right}"),
            ));
        }
        images.insert(name, image.within(folder));
    }
    Ok(images)
}
