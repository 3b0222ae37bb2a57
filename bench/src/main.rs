//! `selvage-bench`.

fn main() {}
