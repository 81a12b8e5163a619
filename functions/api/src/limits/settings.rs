//! What is limited, and how: the settings, as a text has them.

use super::bucket::Rate;
use eventplane_instances::{Counted, Quotas};

/// What users do that has a limit of its own, under EC2's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Launch,
    Start,
    Stop,
    Reboot,
    Terminate,
    /// All that there is, from its beginning.
    Describe,
    /// One, a page, or what passes a filter.
    DescribeSome,
}

impl Action {
    pub(crate) const ALL: [Action; 7] = [
        Action::Launch,
        Action::Start,
        Action::Stop,
        Action::Reboot,
        Action::Terminate,
        Action::Describe,
        Action::DescribeSome,
    ];

    /// EC2's name, and a word more for the two kinds of one action.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Action::Launch => "RunInstances",
            Action::Start => "StartInstances",
            Action::Stop => "StopInstances",
            Action::Reboot => "RebootInstances",
            Action::Terminate => "TerminateInstances",
            Action::Describe => "DescribeInstances",
            Action::DescribeSome => "DescribeInstances.some",
        }
    }

    /// Whether it changes nothing.
    pub(crate) const fn is_a_read(self) -> bool {
        matches!(self, Action::Describe | Action::DescribeSome)
    }
}

/// How often something may be done: by requests, and by the instances that they name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rates {
    pub(crate) requests: Option<Rate>,
    pub(crate) instances: Option<Rate>,
}

/// All limits. By default nothing is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// What a tenant may have.
    pub(crate) quotas: Quotas,
    /// How often a tenant may do each of [`Action::ALL`].
    pub(crate) rates: [Rates; 7],
    /// How many launches and starts all tenants together get through while the plane sheds them.
    pub(crate) shed: Rate,
    /// Whether a mode holds that rules have entered. One that an operator has set always does.
    pub(crate) modes: bool,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            quotas: Quotas::default(),
            rates: [Rates::default(); 7],
            shed: Rate { size: 5, per_s: 1 },
            modes: false,
        }
    }
}

/// EC2's rates, by requests and by instances: size and refill per second, in the order of
/// [`Action::ALL`]. A reboot has those of a stop's requests, by a choice of ours.
///
/// Source: "Request throttling for the Amazon EC2 API", EC2 developer guide.
const EC2_RATES: [[Option<(u32, u32)>; 2]; 7] = [
    [Some((5, 2)), Some((1000, 2))],
    [Some((5, 2)), Some((1000, 2))],
    [Some((50, 5)), Some((1000, 20))],
    [Some((50, 5)), None],
    [Some((100, 5)), Some((1000, 20))],
    [Some((50, 10)), None],
    [Some((100, 20)), None],
];

/// EC2's quotas of a new account: 5 vCPUs of running standard instances, 5,000 network interfaces, and
/// 50 TiB of volumes of the default type. It counts neither instances nor volumes by number.
///
/// Sources: "Amazon EC2 service quotas", EC2 user guide (L-1216C47A); "Amazon VPC quotas", VPC user
/// guide (network interfaces per Region); "Quotas for Amazon EBS", EBS user guide (L-7A658B76).
const EC2_QUOTAS: Quotas = Quotas([None, Some(5), Some(5_000), None, Some(50 * 1024)]);

/// What a text of limits may be.
const RIGHT: &str = "limits are `off` or `ec2`, and after it, with commas, what differs: quotas as in \
                     `vcpus=64`, rates as in `RunInstances=5/2` (at once, and a second) or \
                     `RunInstances.instances=1000/2`, `shed=5/1`, `modes=on`; `off` ends a limit";

impl LimitSettings {
    /// EC2's own, and the rules of modes.
    #[must_use]
    pub fn ec2() -> Self {
        let rate = |of: Option<(u32, u32)>| of.map(|(size, per_s)| Rate { size, per_s });
        let rates = |[requests, instances]: [Option<(u32, u32)>; 2]| Rates {
            requests: rate(requests),
            instances: rate(instances),
        };
        LimitSettings {
            quotas: EC2_QUOTAS,
            rates: EC2_RATES.map(rates),
            modes: true,
            ..LimitSettings::default()
        }
    }

    /// Whether a mode that rules have entered holds.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.modes
    }

    /// Reads limits: `off` or `ec2`, and what differs from it, such as `ec2,vcpus=64`.
    ///
    /// # Errors
    /// What is wrong with the text, and what would be right.
    pub fn parse(text: &str) -> Result<LimitSettings, String> {
        let mut settings = LimitSettings::default();
        for (place, word) in text.split(',').map(str::trim).enumerate() {
            let is_read = match (place, word.split_once('=')) {
                (0, None) if word == "off" || word.is_empty() => Some(()),
                (0, None) if word == "ec2" => {
                    settings = LimitSettings::ec2();
                    Some(())
                }
                (_, Some((name, value))) => settings.set(name.trim(), value.trim()),
                _ => None,
            };
            is_read.ok_or_else(|| format!("`{word}` is no limit: {RIGHT}"))?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        if let Some(of) = Counted::ALL.into_iter().find(|of| of.name() == name) {
            self.quotas.0[of as usize] = match value {
                "off" => None,
                number => Some(number.parse::<u32>().ok()?.into()),
            };
            return Some(());
        }
        match name {
            "modes" => {
                self.modes = match value {
                    "on" => true,
                    "off" => false,
                    _ => return None,
                }
            }
            "shed" => self.shed = rate(value)?,
            name => {
                let rate = if value == "off" { None } else { Some(rate(value)?) };
                let (action, side) = match name.strip_suffix(".instances") {
                    Some(action) => (action, true),
                    None => (name, false),
                };
                let action = Action::ALL.into_iter().find(|of| of.name() == action)?;
                let rates = &mut self.rates[action as usize];
                match side {
                    true if action.is_a_read() => return None,
                    true => rates.instances = rate,
                    false => rates.requests = rate,
                }
            }
        }
        Some(())
    }
}

/// A rate as `size/per_s`.
fn rate(text: &str) -> Option<Rate> {
    let (size, per_s) = text.split_once('/')?;
    let rate = Rate { size: size.parse().ok()?, per_s: per_s.parse().ok()? };
    (rate.size > 0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_a_preset_and_what_differs_from_it() {
        let read = |text| LimitSettings::parse(text).expect(text);
        let off = LimitSettings::default();
        assert_eq!((read("off"), read(""), read("ec2")), (off.clone(), off, LimitSettings::ec2()));
        let some = read("instances=3, RunInstances.instances=7/1,StopInstances=2/1,shed=9/3");
        assert_eq!(some.quotas, Quotas([Some(3), None, None, None, None]));
        let [launch, _, stop, ..] = some.rates;
        assert_eq!(launch.instances, Some(Rate { size: 7, per_s: 1 }));
        assert_eq!((launch.requests, stop.requests), (None, Some(Rate { size: 2, per_s: 1 })));
        assert_eq!((some.shed, some.modes), (Rate { size: 9, per_s: 3 }, false));
        let more = read("ec2,vcpus=64,volume_gib=off,RunInstances=off,modes=off");
        assert_eq!(more.quotas, Quotas([None, Some(64), Some(5_000), None, None]));
        assert_eq!((more.rates[0].requests, more.modes), (None, false));
        assert_eq!(more.rates[4], LimitSettings::ec2().rates[4]);
    }

    #[test]
    fn what_is_no_limit_is_told_what_would_be() {
        for bad in [
            "aws",
            "ec2,off",
            "vcpus",
            "vcpus=-1",
            "vcpus=many",
            "RunInstances=5",
            "RunInstances=0/1",
            "DescribeInstances.instances=5/2",
            "runinstances=5/2",
            "modes=yes",
            "ec2,",
        ] {
            let told = LimitSettings::parse(bad).expect_err(bad);
            assert!(told.contains("vcpus=64") && told.contains("is no limit"), "{told}");
        }
    }
}
