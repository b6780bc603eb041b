//! `conclave-coordinator check` and `recover`: for a home that nobody serves.

use std::path::Path;

use anyhow::{Context, bail};

use crate::{
    app::{DATA, lock},
    config::{Config, Flags},
    store,
};

/// Verifies a home and prints a line for each thing that was looked at.
#[allow(clippy::print_stdout)]
pub(crate) fn check(home: &Path) -> anyhow::Result<()> {
    let config = Config::load(home, &Flags::default())?;
    let _lock = lock(home)?;
    let data = home.join(DATA);
    if !data.exists() {
        println!("ok      nothing is kept yet: this coordinator was never served");
        return Ok(());
    }
    let lease_ms = u64::try_from(config.lease.as_millis()).unwrap_or(u64::MAX);
    let checked = store::check(&data, lease_ms).context("check")?;
    checked.found.iter().for_each(|line| println!("ok      {line}"));
    checked.repaired.iter().for_each(|line| println!("mended  {line}"));
    checked.faults.iter().for_each(|line| println!("FAULT   {line}"));
    match checked.faults.len() {
        0 => Ok(()),
        faults => bail!("{faults} faults in {}, see above", data.display()),
    }
}

/// Makes a damaged journal open again.
#[allow(clippy::print_stdout)]
pub(crate) fn recover(home: &Path) -> anyhow::Result<()> {
    let _lock = lock(home)?;
    let data = home.join(DATA);
    let done = store::recover(&data, service::clock::unix_ms()).context("recover")?;
    done.iter().for_each(|line| println!("{line}"));
    println!("next: conclave-coordinator check --home {}", home.display());
    Ok(())
}
