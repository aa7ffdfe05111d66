//! One contract for both disks, then what only the simulated one does.

mod contract;
mod faults;
mod power_cut;
