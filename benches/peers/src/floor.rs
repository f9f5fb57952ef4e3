//! What must be reached: how many times better than whom.
//!
//! What it may not know: how it was measured. Where data comes from and goes: figures in, verdicts out.

use crate::race::{Column, Step};
use crate::tool::Tool;
use crate::workload::Kind;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Seconds.
    Wall,
    /// Processor seconds.
    Cpu,
    /// Peak memory in MiB.
    Memory,
    /// Stored megabytes.
    Stored,
}

/// Against whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The best of all peers.
    Best,
    /// This one.
    Peer(Tool),
}

/// One floor: the peer's figure divided by ours must be at least `factor`.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Which line of the table.
    pub column: Column,
    /// What is compared.
    pub measure: Measure,
    /// Against whom.
    pub against: Against,
    /// How many times better.
    pub factor: f64,
}

const fn floor(kind: Kind, step: Step, measure: Measure, against: Against, factor: f64) -> Floor {
    Floor { column: Column { kind, step }, measure, against, factor }
}

/// No step may need more memory than this, in MiB.
pub const MEMORY_MIB_MAX: f64 = 160.0;

/// All floors. Where one names a peer, the others do something less (bupstash does not verify) or are no measure.
#[rustfmt::skip]
pub const FLOORS: [Floor; 18] = {
    use Against::{Best, Peer};
    use Kind::{Noise, Pages, Tree};
    use Measure::{Memory, Stored, Wall};
    use Step::{Changed, First, Prune, Restore, Unchanged, Verify};
    use Tool::{Borg, Bupstash, Restic, Rustic};
    [
        floor(Tree, First, Wall, Peer(Restic), 2.0),
        floor(Tree, First, Wall, Peer(Bupstash), 1.0),
        floor(Tree, First, Stored, Peer(Bupstash), 0.99),
        floor(Tree, Unchanged, Wall, Peer(Restic), 4.0),
        floor(Tree, Unchanged, Wall, Peer(Bupstash), 1.0),
        floor(Tree, Restore, Wall, Best, 1.5),
        floor(Tree, Restore, Memory, Peer(Rustic), 10.0),
        floor(Tree, Verify, Wall, Peer(Restic), 1.5),
        floor(Tree, Verify, Wall, Peer(Rustic), 1.5),
        floor(Pages, First, Wall, Best, 1.7),
        floor(Pages, First, Stored, Best, 0.97),
        floor(Pages, Changed, Wall, Best, 3.0),
        floor(Pages, Changed, Stored, Best, 5.0),
        floor(Pages, Restore, Wall, Best, 1.5),
        floor(Pages, Verify, Wall, Peer(Restic), 1.5),
        floor(Pages, Verify, Wall, Peer(Rustic), 1.5),
        floor(Pages, Prune, Wall, Peer(Borg), 1.0),
        floor(Noise, First, Wall, Best, 2.0),
    ]
};

impl Floor {
    /// Peer's figure divided by ours, when both were measured. `figure` gives a tool's.
    pub fn ratio(&self, figure: &dyn Fn(Tool) -> Option<f64>) -> Option<f64> {
        let peer = match self.against {
            Against::Peer(tool) => figure(tool),
            Against::Best => {
                Tool::ALL.into_iter().filter(|t| *t != Tool::Backstay).filter_map(figure).min_by(f64::total_cmp)
            }
        };
        peer.zip(figure(Tool::Backstay)).filter(|(_, ours)| *ours > 0.0).map(|(peer, ours)| peer / ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_measured_against_whom_it_names() {
        let figure = |tool| match tool {
            Tool::Backstay => Some(2.0),
            Tool::Restic => Some(6.0),
            Tool::Borg => Some(5.0),
            _ => None,
        };
        let ratio = |against| floor(Kind::Tree, Step::First, Measure::Wall, against, 1.0).ratio(&figure);
        assert_eq!(ratio(Against::Peer(Tool::Restic)), Some(3.0));
        assert_eq!(ratio(Against::Best), Some(2.5));
        assert_eq!(ratio(Against::Peer(Tool::Rustic)), None);
    }
}
