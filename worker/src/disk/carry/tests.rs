use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

mod integers;

const SHAPE: Shape = Shape { residual: 3, local: 2, integers: 0 };

fn carried(number: f32) -> Carried {
    Carried {
        residual: vec![number, -0.5, f32::MIN_POSITIVE / 2.0],
        local: vec![-0.0, number + 1.0],
        integers: vec![],
    }
}

fn place(run: &str, round: u32, from: Option<u32>) -> Place {
    Place { run: run.parse().unwrap(), round, from }
}

fn put(carry: &Carry, place: &Place) {
    carry.stage(place, Arc::new(carried(place.round as f32)));
    carry.put(place).unwrap();
}

fn home() -> (tempfile::TempDir, Carry) {
    let home = tempfile::tempdir().unwrap();
    let carry = Carry::open(home.path()).unwrap();
    (home, carry)
}

fn latest(carry: &Carry, before: u32) -> (Carried, Option<u32>) {
    carry.latest(&"r".parse().unwrap(), before, SHAPE)
}

fn names(home: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(home.path().join(FOLDER)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const NOTHING: (Carried, Option<u32>) =
    (Carried { residual: Vec::new(), local: Vec::new(), integers: Vec::new() }, None);

#[test]
fn a_round_starts_from_the_latest_one_before_it() {
    let (home, carry) = home();
    assert_eq!(latest(&carry, 7), NOTHING);
    put(&carry, &place("r", 3, None));
    put(&carry, &place("r", 7, Some(3)));
    put(&carry, &place("r.7", 1, None));
    let again = Carry::open(home.path()).unwrap();
    for carry in [&carry, &again] {
        assert_eq!(latest(carry, 3), NOTHING);
        // Also when it is trained again, after it has left something itself.
        assert_eq!(latest(carry, 7), (carried(3.0), Some(3)));
        assert_eq!(latest(carry, u32::MAX), (carried(7.0), Some(7)));
    }
    assert_eq!(names(&home), ["r.3", "r.7", "r.7.1"]);
    let mode = fs::metadata(home.path().join(FOLDER).join("r.7")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn files_that_no_repetition_needs_are_removed() {
    let (home, carry) = home();
    for (round, from) in [(1, None), (2, Some(1)), (5, Some(2))] {
        put(&carry, &place("r", round, from));
    }
    assert_eq!(names(&home), ["r.2", "r.5"]);
    // Again, and then another future than that of round 5.
    put(&carry, &place("r", 5, Some(2)));
    assert_eq!(names(&home), ["r.2", "r.5"]);
    put(&carry, &place("r", 3, Some(2)));
    assert_eq!(names(&home), ["r.2", "r.3"]);
}

#[test]
fn the_newest_sixteen_runs_have_files() {
    let (home, carry) = home();
    for (index, age) in (0..20u32).zip((1..=20u64).rev()) {
        put(&carry, &place(&format!("run{index:02}"), 1, None));
        let path = home.path().join(FOLDER).join(format!("run{index:02}.1"));
        let written = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000 - age);
        File::open(path).unwrap().set_modified(written).unwrap();
    }
    put(&carry, &place("r", 1, None));
    let mut expected = vec!["r.1".to_owned()];
    expected.extend((5..20).map(|index| format!("run{index:02}.1")));
    assert_eq!(names(&home), expected);
}

#[test]
fn what_is_not_on_disk_yet_counts() {
    let (home, carry) = home();
    put(&carry, &place("r", 1, None));
    let next = place("r", 2, Some(1));
    carry.stage(&next, Arc::new(carried(2.0)));
    assert_eq!(latest(&carry, 3), (carried(2.0), Some(2)));
    assert_eq!(latest(&carry, 2), (carried(1.0), Some(1)));
    // To another process it never happened.
    assert_eq!(latest(&Carry::open(home.path()).unwrap(), 3), (carried(1.0), Some(1)));
    carry.put(&next).unwrap();
    assert!(carry.staged().is_empty());
    assert_eq!(latest(&Carry::open(home.path()).unwrap(), 3), (carried(2.0), Some(2)));
}

#[test]
fn a_damaged_file_is_passed_over_and_the_older_residual_is_not_sent_twice() {
    let (home, carry) = home();
    put(&carry, &place("r", 1, None));
    put(&carry, &place("r", 2, Some(1)));
    let path = home.path().join(FOLDER).join("r.2");
    let good = fs::read(&path).unwrap();
    let older = Carried { residual: Vec::new(), ..carried(1.0) };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert_eq!(latest(&carry, 3), (older.clone(), Some(1)), "byte {at}");
    }
    for bad in [&good[..0], &good[..good.len() - 1], &[&good[..], &[0]].concat()] {
        fs::write(&path, bad).unwrap();
        assert_eq!(latest(&carry, 3), (older.clone(), Some(1)), "{} bytes", bad.len());
    }
    // It stays as long as its neighbours, so that a repetition passes over it again.
    put(&carry, &place("r", 3, Some(1)));
    assert_eq!(names(&home), ["r.1", "r.2", "r.3"]);
    assert_eq!(latest(&carry, 3), (older, Some(1)));
    put(&carry, &place("r", 4, Some(3)));
    assert_eq!(names(&home), ["r.3", "r.4"]);
}

#[test]
fn files_of_others_are_passed_over_and_left_alone() {
    let (home, carry) = home();
    put(&carry, &place("other", 4, None));
    let file = |name: &str| home.path().join(FOLDER).join(name);
    // Of another run, of another round, and by names that are not ours.
    fs::copy(file("other.4"), file("r.4")).unwrap();
    fs::copy(file("other.4"), file("r.04")).unwrap();
    fs::write(file("notes"), b"x").unwrap();
    assert_eq!(latest(&carry, 9), NOTHING);
    // Of a job with another number of elements.
    put(&carry, &place("r", 4, None));
    let other = Shape { residual: 2, local: 3, integers: 0 };
    assert_eq!(carry.latest(&"r".parse().unwrap(), 9, other), NOTHING);
    assert_eq!(latest(&carry, 9), (carried(4.0), Some(4)));
    assert_eq!(names(&home), ["notes", "other.4", "r.04", "r.4"]);
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    let (home, _) = home();
    fs::write(home.path().join(FOLDER).join("r.tmp"), b"half").unwrap();
    Carry::open(home.path()).unwrap();
    assert_eq!(names(&home), [""; 0]);
}

#[test]
fn a_disk_that_takes_nothing_is_an_error_that_names_the_file() {
    let (home, carry) = home();
    fs::remove_dir(home.path().join(FOLDER)).unwrap();
    let place = place("r", 1, None);
    carry.stage(&place, Arc::new(carried(1.0)));
    let error = carry.put(&place).unwrap_err().to_string();
    assert!(error.contains("carry/r.1"), "{error}");
    assert_eq!(latest(&carry, 2), NOTHING);
}

#[test]
fn stays_readable_by_later_releases() {
    let (home, carry) = home();
    put(&carry, &place("r", 3, None));
    let bytes = fs::read(home.path().join(FOLDER).join("r.3")).unwrap();
    // Files on disk depend on this: do not change the figure, raise FORMAT.
    assert_eq!((bytes.len(), Digest::of(&bytes).short().as_str()), (34 + 20 + 32, GOLDEN));
}

const GOLDEN: &str = "9419586bc64d";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_bit_comes_back(residual in 0..3 * PIECE, local in 0..20usize, seed: u64) {
        let (home, carry) = home();
        let mut rng = params::Rng::new(seed, &["carry"]);
        let mut floats = |count: usize| -> Vec<u32> { (0..count).map(|_| rng.bits() as u32).collect() };
        let (residual, local) = (floats(residual), floats(local));
        let of = |bits: &[u32]| bits.iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>();
        let place = place("r", 1, None);
        carry.stage(&place, Arc::new(Carried { residual: of(&residual), local: of(&local), integers: vec![] }));
        carry.put(&place).unwrap();
        let shape = Shape { residual: residual.len(), local: local.len(), integers: 0 };
        let (found, from) = Carry::open(home.path()).unwrap().latest(&place.run, 2, shape);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!((bits(&found.residual), bits(&found.local), from), (residual, local, Some(1)));
    }
}
