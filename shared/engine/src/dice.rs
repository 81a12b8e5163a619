//! Chance for choosing: a small generator that the engine seeds, so that a decision is a function
//! of its arguments. Never for secrets; those come from [`crate::Chance::fill`].

/// A stream of random numbers from one seed (SplitMix64: Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n.max(1) as u128;
        ((u128::from(self.draw()) * n) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the reference implementation (Vigna, `splitmix64.c`) with the seed 0.
    #[test]
    fn the_stream_is_that_of_splitmix64() {
        let mut dice = Dice::new(0);
        let right = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert_eq!([dice.draw(), dice.draw(), dice.draw()], right);
    }

    #[test]
    fn every_number_below_is_drawn_about_as_often() {
        let mut dice = Dice::new(1);
        let mut drawn = [0; 6];
        (0..6_000).for_each(|_| drawn[dice.below(6)] += 1);
        assert!(drawn.iter().all(|times| (800..1_200).contains(times)), "{drawn:?}");
        assert_eq!((dice.below(0), dice.below(1)), (0, 0));
    }
}
