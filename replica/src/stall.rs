//! Whether the log writer still gives work back, counted in ticks.
//!
//! What lives here: the count. What may not: what follows from it; that is the consensus half's decision.

/// How long the log writer has given nothing back although it has work.
///
/// Invariant: `ticks` is 0 while nothing is outstanding.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    outstanding: usize,
    ticks: u32,
}

impl Stall {
    /// Work leaves for the log writer.
    pub(crate) fn hand_out(&mut self, works: usize) {
        self.outstanding += works;
    }

    /// One piece of work is back: the disk answers.
    pub(crate) fn take_back(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.ticks = 0;
    }

    /// A tick has passed.
    pub(crate) fn tick(&mut self) {
        if self.outstanding > 0 {
            self.ticks = self.ticks.saturating_add(1);
        }
    }

    /// Ticks since the last sign of life, 0 if none is owed.
    pub(crate) fn ticks(&self) -> u32 {
        self.ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_with_work_outstanding_counts() {
        let mut stall = Stall::default();
        stall.tick();
        assert_eq!(stall.ticks(), 0, "nothing is owed");
        stall.hand_out(2);
        stall.tick();
        stall.tick();
        assert_eq!(stall.ticks(), 2);
        stall.take_back();
        assert_eq!(stall.ticks(), 0, "a disk that gives something back is slow, not gone");
        stall.tick();
        assert_eq!(stall.ticks(), 1);
        stall.take_back();
        stall.tick();
        assert_eq!(stall.ticks(), 0);
    }
}
