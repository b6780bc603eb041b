use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    federation::Federation,
    process::{Process, program, wait_for},
};

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: what was not synced is gone, as in a power loss.
///
/// It prints the time before it does so: an fsync that waits meanwhile is told that it succeeded, although nothing
/// reaches the disk any more (the kernel aborts its journal without an error). A process without power hears nothing.
const CUT: &str = "import datetime, fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%S.%fZ'), flush=True)
fcntl.ioctl(fd, 0x8004587D, struct.pack('I', 2))";

const BALLAST: &str = "ballast";

/// A small ext4 in a file, which holds the home of a coordinator, and which a test may fill or cut off.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// Stops the coordinator of `federation`, and moves its home to a disk of `mib` MiB. Tells why not, where
    /// that needs more than this host allows (root, loop devices, `mkfs.ext4`, Python for the cut).
    ///
    /// # Errors
    /// What the system says.
    pub fn under(federation: &mut Federation, mib: u64) -> Result<Self, String> {
        let (image, at) = (federation.path("disk.img"), federation.home());
        let file = fs::File::create(&image).map_err(|e| format!("create {}: {e}", image.display()))?;
        file.set_len(mib << 20).map_err(|e| format!("make {} as large: {e}", image.display()))?;
        let shown = image.display().to_string();
        command("mkfs.ext4", &["-q", "-F", "-m", "0", &shown])?;
        command("python3", &["-c", "import fcntl"])?;
        let new = federation.path("new-disk");
        fs::create_dir(&new).map_err(|e| format!("create {}: {e}", new.display()))?;
        let empty = Self { image: image.clone(), at: new };
        empty.mount()?;
        drop(empty);
        // It can be done; from here on a failure is one of the test.
        federation.kill();
        let before = federation.path("home-before");
        fs::rename(&at, &before).expect("move the home");
        fs::create_dir(&at).expect("make a mount point");
        let disk = Self { image, at };
        disk.mount().expect("mounted before");
        let from = format!("{}/.", before.display());
        command("cp", &["-a", &from, &disk.at.display().to_string()]).expect("copy the home");
        command("sync", &["-f", &disk.at.display().to_string()]).expect("sync the home");
        Ok(disk)
    }

    /// The power fails: everything that was not synced is lost, and nothing can be read any more. Tells when, as
    /// a log does: what anybody was told later was told by a process without power.
    pub fn cut(&self) -> String {
        let cut = command("python3", &["-c", CUT, &self.at.display().to_string()]);
        cut.expect("shut the disk down").trim().to_owned()
    }

    /// The disk after a restart of the host; nobody may use it.
    pub fn again(&self) {
        self.unmount();
        self.mount().expect("the disk mounts again");
    }

    /// As [`Disk::again`], for reading only.
    pub fn again_for_reading(&self) {
        self.unmount();
        self.mount_with("loop,ro").expect("the disk mounts for reading");
    }

    /// The file system finds itself damaged, and takes no write from now on.
    pub fn abort(&self) {
        command("mount", &["-o", "remount,abort", &self.at.display().to_string()]).expect("abort the disk");
    }

    /// Takes space until `left` bytes are left.
    pub fn fill(&self, left: u64) {
        let path = self.at.join(BALLAST);
        let have = self.available();
        let ballast = fs::File::options().create(true).append(true).open(&path).expect("create ballast");
        let size = ballast.metadata().expect("read ballast").len() + have.saturating_sub(left);
        drop(ballast);
        // More than there is: it takes what it gets.
        let _ = command("fallocate", &["-l", &size.to_string(), &path.display().to_string()]);
        if left == 0 {
            let to = format!("of={}", path.display());
            let all = ["if=/dev/zero", &to, "bs=4096", "oflag=append", "conv=notrunc", "status=none"];
            command("dd", &all).expect_err("the disk is full");
        }
    }

    /// Gives the space back.
    pub fn free(&self) {
        fs::remove_file(self.at.join(BALLAST)).expect("remove ballast");
    }

    /// Bytes that are left.
    pub fn available(&self) -> u64 {
        let shown = self.at.display().to_string();
        let text = command("df", &["--output=avail", "-B1", &shown]).expect("ask for space");
        text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number of bytes")
    }

    fn mount(&self) -> Result<(), String> {
        self.mount_with("loop")
    }

    fn mount_with(&self, options: &str) -> Result<(), String> {
        let (image, at) = (self.image.display().to_string(), self.at.display().to_string());
        command("mount", &["-o", options, &image, &at]).map(|_| ())
    }

    fn unmount(&self) {
        // A process that was killed a moment ago may still be there.
        wait_for("the end of who uses the disk", || {
            command("umount", &[&self.at.display().to_string()]).ok()
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: it goes with the last process that uses it.
        let _ = command("umount", &["-l", &self.at.display().to_string()]);
    }
}

/// Starts the coordinator of a home whose own one is not running, on the ports that it had before and with
/// `variables` of the environment (`NAME=VALUE`); waits for nothing.
pub fn serve_with(federation: &Federation, variables: &[&str], log: &str) -> Process {
    serve_at(federation, &federation.home(), &[&federation.grpc(), &federation.http()], variables, log)
}

/// As [`serve_with`], on a home and ports (gRPC, HTTP) of the caller's choice.
pub fn serve_at(
    federation: &Federation,
    home: &Path,
    [grpc, http]: &[&str; 2],
    variables: &[&str],
    log: &str,
) -> Process {
    let coordinator = program("conclave-coordinator").display().to_string();
    let home = home.display().to_string();
    let serve = [&coordinator, "serve", "--home", &home, "--listen", grpc, "--http", http];
    let args: Vec<String> = variables.iter().chain(&serve).map(ToString::to_string).collect();
    // Not a program of this workspace, but one that becomes it.
    Process::start("/usr/bin/env", &args, federation.path(log), &[])
}

/// Runs a program of the system to its end; tells what it printed.
///
/// # Errors
/// It is not there, or it says why it failed.
pub fn command(program: &str, args: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => {
            Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim()))
        }
    }
}
