use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// What a process holds and has used, as Linux counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// The most that it was.
    pub resident_max: u64,
    /// Time on a processor, its own and in the kernel, in seconds.
    pub cpu: f64,
}

/// Of the process `pid`, now.
pub fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let kilobytes = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of its status");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    Usage {
        resident: kilobytes("VmRSS:") * 1024,
        resident_max: kilobytes("VmHWM:") * 1024,
        cpu: cpu_seconds(pid),
    }
}

fn cpu_seconds(pid: u32) -> f64 {
    // The kernel counts for user space in hundredths of a second, whatever its own clock.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // Behind the name, which may hold anything.
    let fields = stat.rsplit_once(')').expect("the name of the program").1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks"));
    ticks.sum::<u64>() as f64 / TICKS_PER_SECOND
}

/// How many small appends the disk under `folder` makes durable in a second, one after the other: what
/// bounds everything that acknowledges.
pub fn syncs_per_second(folder: &Path) -> f64 {
    const LENGTH: Duration = Duration::from_secs(1);
    let path = folder.join("syncs");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("create a file");
    #[allow(clippy::disallowed_methods)] // it measures
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < LENGTH {
        file.write_all(&[0; 200]).and_then(|()| file.sync_data()).expect("write and sync");
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    fs::remove_file(&path).expect("remove the file");
    rate
}
