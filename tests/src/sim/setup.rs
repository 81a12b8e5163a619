//! What a history begins with: all that it depends on.

use super::fault::{Kind, Kinds, Profile};
use eventplane_engine::Dice;

/// All that a history depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// The profile.
    pub profile: Profile,
    /// Where its chances come from.
    pub seed: u64,
    /// What goes wrong in it.
    pub kinds: Kinds,
    /// How many launches are asked for.
    pub launches: usize,
    /// How much happens before the trouble ends.
    pub steps: u64,
}

/// Steps of a history besides those for its launches, and steps for each of these.
const STEPS: (u64, u64) = (150, 350);
/// What is drawn of a setup comes from another stream than what happens in it.
const SETUP: u64 = 0x5e7_0b5e_ed5e_7095;

impl Setup {
    /// The setup of this seed: two to four launches, or as many as are wanted. With overload there
    /// are four times as many, and twice as many where all comes again.
    #[must_use]
    pub fn of(profile: Profile, seed: u64, launches: Option<usize>) -> Setup {
        let mut dice = Dice::new(seed ^ SETUP);
        let many = match profile {
            Profile::D => 4,
            // More than there is room for, so that there are refusals to come again.
            Profile::E => 2,
            _ => 1,
        };
        let launches = launches.unwrap_or(many * (2 + dice.below(3)));
        let kinds = profile.kinds();
        let kinds = match profile {
            // A swarm: histories with few kinds find what others drown.
            Profile::C => {
                let one_in = 2 + dice.below(3);
                let drawn = kinds.iter().filter(|_| dice.below(one_in) == 0);
                drawn.fold(Kinds::default(), Kinds::with)
            }
            // What changes a whole history is in some of them.
            _ => {
                let whole = [Kind::Hasty, Kind::Scarce, Kind::Reversed, Kind::Storm];
                let left_out = |kind: &Kind| whole.contains(kind) && dice.below(2) == 0;
                kinds.iter().filter(left_out).fold(kinds, Kinds::without)
            }
        };
        Setup { profile, seed, kinds, launches, steps: STEPS.0 + STEPS.1 * launches as u64 }
    }

    /// Whether there is a sweeper: where something may be lost. Elsewhere it would hide what is
    /// wrong.
    #[must_use]
    pub fn has_sweeper(&self) -> bool {
        self.kinds.iter().any(Kind::loses)
    }

    /// The command that repeats the history.
    #[must_use]
    pub fn command(&self) -> String {
        let Setup { profile, seed, launches, steps, .. } = self;
        let drawn = Setup::of(*profile, *seed, Some(*launches));
        let mut command = format!(
            "cargo xtask sim --profile {} --seed {seed} --launches {launches}",
            profile.letter()
        );
        if *steps != drawn.steps {
            command += &format!(" --steps {steps}");
        }
        let left_out: Vec<&str> =
            drawn.kinds.iter().filter(|kind| !self.kinds.has(*kind)).map(Kind::name).collect();
        if !left_out.is_empty() {
            command += &format!(" --without {}", left_out.join(","));
        }
        command
    }
}
