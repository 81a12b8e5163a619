//! What a user may ask for: the volume types with their limits, and a launch's volumes as they
//! follow from its image and what was asked for.

use crate::images::Image;
use eventplane_domain::{Reason, VolumeSpec};
use std::ops::RangeInclusive;

/// How many volumes an instance may have, the root volume among them: one for each device name of
/// [`DATA_DEVICES`] beside the root. With as many, a receipt still has at most 1 KB.
pub const VOLUMES_MAX: usize = 1 + DATA_DEVICES.len();
/// The device names of data volumes, in the order in which they are given where none is asked for
/// (`/dev/sd[f-p]`: "Device naming on Linux instances", EC2 user guide).
pub const DATA_DEVICES: [&str; 11] = [
    "/dev/sdf", "/dev/sdg", "/dev/sdh", "/dev/sdi", "/dev/sdj", "/dev/sdk", "/dev/sdl", "/dev/sdm",
    "/dev/sdn", "/dev/sdo", "/dev/sdp",
];
/// The longest device name.
const DEVICE_CHARS_MAX: usize = 16;

/// A volume type with its limits ("EbsBlockDevice", EC2 API reference).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeType {
    /// Its name, such as `gp3`.
    pub name: &'static str,
    /// Sizes in GiB.
    pub gib: RangeInclusive<u32>,
    /// I/O operations per second, where they can be asked for.
    pub iops: Option<Iops>,
}

/// How many I/O operations per second a volume may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iops {
    /// The least and the most.
    pub range: RangeInclusive<u32>,
    /// What it has if nothing is asked for; nothing where it has to be asked for.
    pub default: Option<u32>,
    /// The most for each GiB; the least of the range is always allowed.
    pub per_gib_max: u32,
}

/// The volume types that there are: the first where none is asked for. The most per GiB stands
/// under "Amazon EBS General Purpose SSD volumes" and "Amazon EBS Provisioned IOPS SSD volumes",
/// Amazon EBS user guide.
pub const VOLUME_TYPES: [VolumeType; 3] = [
    VolumeType {
        name: "gp3",
        gib: 1..=16_384,
        iops: Some(Iops { range: 3_000..=16_000, default: Some(3_000), per_gib_max: 500 }),
    },
    VolumeType {
        name: "io2",
        gib: 4..=65_536,
        iops: Some(Iops { range: 100..=256_000, default: None, per_gib_max: 1_000 }),
    },
    VolumeType { name: "st1", gib: 125..=16_384, iops: None },
];

/// A volume as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AskedVolume {
    /// The device name; the root's own name asks for another root volume. If none, the next free
    /// one of [`DATA_DEVICES`].
    pub device: Option<String>,
    /// The type; gp3 if none.
    pub volume_type: Option<String>,
    /// The size in GiB; only a root volume has one without asking, its image's.
    pub size_gib: Option<u32>,
    /// I/O operations per second.
    pub iops: Option<u32>,
    /// Whether it goes with its instance; yes if nothing is asked for, as for all volumes that a
    /// launch through the API brings ("Preserve data when an instance is terminated", EC2 user
    /// guide).
    pub delete_on_termination: Option<bool>,
}

/// The volumes of a launch from `image`, the root volume first.
///
/// # Errors
/// Why there can be no such volumes, with the field and what would be right.
pub fn launch_volumes(image: &Image, asked: &[AskedVolume]) -> Result<Vec<VolumeSpec>, Reason> {
    let mut volumes = vec![image.root_volume()];
    let is_root = |one: &AskedVolume| one.device.as_ref() == Some(&image.root_device);
    let mut named: Vec<&str> = asked.iter().filter_map(|one| one.device.as_deref()).collect();
    let mut root_asked = false;
    for (at, one) in asked.iter().enumerate() {
        let field = format!("volumes[{at}]");
        if is_root(one) {
            if std::mem::replace(&mut root_asked, true) {
                return Err(twice(&field, &image.root_device));
            }
            volumes[0] = root(image, one, &field)?;
            continue;
        }
        if volumes.len() == VOLUMES_MAX {
            let message =
                format!("an instance has at most {VOLUMES_MAX} volumes, its root included");
            // "Error codes for the Amazon EC2 API": `VolumeLimitExceeded` is of all volumes.
            return Err(Reason::new("AttachmentLimitExceeded", message));
        }
        let device = match one.device.as_deref() {
            Some(device) => device,
            None => DATA_DEVICES
                .into_iter()
                .find(|device| !named.contains(device))
                .ok_or_else(|| invalid(&field, "has no device, and all names are given"))?,
        };
        if one.device.is_none() {
            named.push(device);
        }
        if volumes.iter().any(|volume| volume.device == device) {
            return Err(twice(&field, device));
        }
        volumes.push(volume(one, device, one.size_gib, &field)?);
    }
    Ok(volumes)
}

/// The root volume as asked for: at least as large as its image.
fn root(image: &Image, one: &AskedVolume, field: &str) -> Result<VolumeSpec, Reason> {
    let size_gib = one.size_gib.unwrap_or(image.root_gib);
    if size_gib < image.root_gib {
        let message = format!(
            "size_gib is {size_gib}, a root volume from {} has at least {} GiB",
            image.image_id, image.root_gib
        );
        return Err(invalid(field, &message));
    }
    volume(one, &image.root_device, Some(size_gib), field)
}

fn volume(
    one: &AskedVolume,
    device: &str,
    size_gib: Option<u32>,
    field: &str,
) -> Result<VolumeSpec, Reason> {
    let name = device.strip_prefix("/dev/").unwrap_or_default();
    if name.is_empty()
        || device.len() > DEVICE_CHARS_MAX
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    {
        let message = "device is not `/dev/` and 1 to 11 lower-case letters and digits, such as \
                       `/dev/sdf`";
        return Err(invalid(field, message));
    }
    let wanted = one.volume_type.as_deref().unwrap_or(VOLUME_TYPES[0].name);
    let Some(kind) = VOLUME_TYPES.iter().find(|kind| kind.name == wanted) else {
        let names = VOLUME_TYPES.map(|kind| kind.name).join(", ");
        let message = format!("{field}: volume_type can be {names}");
        return Err(Reason::new("UnknownVolumeType", message));
    };
    let Some(size_gib) = size_gib else {
        let message = format!("{field} has no size_gib: only a root volume has one by its image");
        return Err(Reason::new("MissingParameter", message));
    };
    if !kind.gib.contains(&size_gib) {
        let (least, most) = (kind.gib.start(), kind.gib.end());
        let message = format!("size_gib is {size_gib}, {wanted} has {least} to {most} GiB");
        return Err(invalid(field, &message));
    }
    Ok(VolumeSpec {
        device: device.to_owned(),
        volume_type: wanted.to_owned(),
        size_gib,
        iops: iops(one.iops, kind, size_gib, field)?,
        delete_on_termination: one.delete_on_termination.unwrap_or(true),
    })
}

/// The I/O operations per second of a volume; 0 where they cannot be asked for.
fn iops(asked: Option<u32>, kind: &VolumeType, size_gib: u32, field: &str) -> Result<u32, Reason> {
    match (&kind.iops, asked) {
        (None, None) => Ok(0),
        (None, Some(_)) => {
            let message = format!("{field}: {} takes no iops: leave the field out", kind.name);
            Err(Reason::new("InvalidParameterCombination", message))
        }
        (Some(Iops { range, default, per_gib_max }), asked) => {
            let Some(iops) = asked.or(*default) else {
                let message = format!("{field} has no iops: {} has to be told them", kind.name);
                return Err(Reason::new("MissingParameter", message));
            };
            let (least, most) = (*range.start(), *range.end());
            let most = most.min(per_gib_max.saturating_mul(size_gib)).max(least);
            if !(least..=most).contains(&iops) {
                let message = format!(
                    "iops is {iops}, {} of {size_gib} GiB has {least} to {most}",
                    kind.name
                );
                return Err(invalid(field, &message));
            }
            Ok(iops)
        }
    }
}

fn invalid(field: &str, message: &str) -> Reason {
    Reason::new("InvalidParameterValue", format!("{field}: {message}"))
}

fn twice(field: &str, device: &str) -> Reason {
    invalid(field, &format!("device is {device}, which another volume has"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::catalogue;

    fn asked(device: &str, volume_type: &str, size_gib: u32) -> AskedVolume {
        AskedVolume {
            device: Some(device.to_owned()),
            volume_type: Some(volume_type.to_owned()),
            size_gib: Some(size_gib),
            ..AskedVolume::default()
        }
    }

    fn sized(size_gib: u32) -> AskedVolume {
        AskedVolume { size_gib: Some(size_gib), ..AskedVolume::default() }
    }

    fn with_iops(one: AskedVolume, iops: u32) -> AskedVolume {
        AskedVolume { iops: Some(iops), ..one }
    }

    #[test]
    fn a_launch_that_asks_for_nothing_has_its_images_root_volume() {
        let image = &catalogue()[0];
        assert_eq!(launch_volumes(image, &[]), Ok(vec![image.root_volume()]));
    }

    #[test]
    fn what_is_not_asked_for_is_filled_in() {
        let image = &catalogue()[0];
        let wanted = [sized(20), asked("/dev/sdf", "st1", 500), sized(30)];
        let volumes = launch_volumes(image, &wanted).expect("good");
        let short: Vec<_> = volumes
            .iter()
            .map(|v| {
                (&v.device[..], &v.volume_type[..], v.size_gib, v.iops, v.delete_on_termination)
            })
            .collect();
        assert_eq!(
            short,
            [
                ("/dev/xvda", "gp3", 8, 3_000, true),
                ("/dev/sdg", "gp3", 20, 3_000, true),
                ("/dev/sdf", "st1", 500, 0, true),
                ("/dev/sdh", "gp3", 30, 3_000, true),
            ]
        );
    }

    #[test]
    fn the_roots_device_asks_for_another_root_volume() {
        let image = &catalogue()[0];
        let root = AskedVolume {
            delete_on_termination: Some(false),
            ..with_iops(asked("/dev/xvda", "io2", 64), 9_000)
        };
        let volumes = launch_volumes(image, &[sized(1), root]).expect("good");
        assert_eq!(volumes.len(), 2);
        assert_eq!((volumes[0].size_gib, &volumes[0].volume_type[..]), (64, "io2"));
        assert!(!volumes[0].delete_on_termination);
        let keeps_its_size = AskedVolume { size_gib: None, ..asked("/dev/xvda", "gp3", 0) };
        assert_eq!(launch_volumes(image, &[keeps_its_size]), Ok(vec![image.root_volume()]));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_could() {
        let image = &catalogue()[0];
        let unsized_one = AskedVolume { size_gib: None, ..asked("/dev/sdf", "gp3", 0) };
        let cases = [
            (asked("sdf", "gp3", 8), "InvalidParameterValue", "such as `/dev/sdf`"),
            (asked("/dev/", "gp3", 8), "InvalidParameterValue", "such as `/dev/sdf`"),
            (asked("/dev/sd\"f", "gp3", 8), "InvalidParameterValue", "such as `/dev/sdf`"),
            (asked("/dev/abcdefghijkl", "gp3", 8), "InvalidParameterValue", "1 to 11"),
            (asked("/dev/sdf", "gp2", 8), "UnknownVolumeType", "gp3, io2, st1"),
            (asked("/dev/sdf", "gp3", 0), "InvalidParameterValue", "1 to 16384 GiB"),
            (asked("/dev/sdf", "gp3", 16_385), "InvalidParameterValue", "1 to 16384 GiB"),
            (asked("/dev/sdf", "st1", 124), "InvalidParameterValue", "125 to 16384 GiB"),
            (asked("/dev/sdf", "io2", 8), "MissingParameter", "has no iops"),
            (unsized_one, "MissingParameter", "has no size_gib"),
            (with_iops(sized(8), 4_001), "InvalidParameterValue", "3000 to 4000"),
            (with_iops(sized(1), 3_001), "InvalidParameterValue", "3000 to 3000"),
            (with_iops(sized(9_000), 16_001), "InvalidParameterValue", "3000 to 16000"),
            (with_iops(asked("/dev/sdf", "io2", 4), 99), "InvalidParameterValue", "100 to 4000"),
            (with_iops(asked("/dev/sdf", "st1", 500), 1), "InvalidParameterCombination", "no iops"),
            (asked("/dev/xvda", "gp3", 7), "InvalidParameterValue", "at least 8 GiB"),
        ];
        for (one, code, right) in cases {
            let given = format!("{one:?}");
            let reason = launch_volumes(image, &[one]).expect_err(&given);
            assert_eq!(reason.code, code, "{given}: {reason}");
            assert!(reason.message.starts_with("volumes[0]"), "{reason}");
            assert!(reason.message.contains(right), "{given}: {reason}");
        }
    }

    #[test]
    fn no_device_is_given_twice() {
        let image = &catalogue()[0];
        for device in ["/dev/sdf", "/dev/xvda"] {
            let one = asked(device, "gp3", 8);
            let reason = launch_volumes(image, &[one.clone(), one]).expect_err("twice");
            assert!(reason.message.contains("volumes[1]: device is /dev/"), "{reason}");
        }
    }

    #[test]
    fn an_instance_has_as_many_volumes_as_there_are_names() {
        let image = &catalogue()[0];
        let full = vec![sized(1); VOLUMES_MAX - 1];
        let volumes = launch_volumes(image, &full).expect("good");
        assert_eq!(volumes.last().map(|volume| &volume.device[..]), Some("/dev/sdp"));
        let reason = launch_volumes(image, &vec![sized(1); VOLUMES_MAX]).expect_err("too many");
        assert_eq!(reason.code, "AttachmentLimitExceeded");
    }
}
