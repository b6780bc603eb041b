use super::*;

fn place(round: u32) -> Place {
    Place { run: "r".parse().unwrap(), round, from: None }
}

fn keep(carry: &Carry, place: &Place, carried: &Carried) {
    carry.stage(place, Arc::new(carried.clone()));
    carry.put(place).unwrap();
}

fn shape(carried: &Carried) -> Shape {
    let Carried { residual, local, integers } = carried;
    Shape { residual: residual.len(), local: local.len(), integers: integers.len() }
}

/// More than a piece of each.
fn large(integers: usize) -> Carried {
    let float = |i: usize| i as f32 * 0.5;
    Carried {
        residual: (0..PIECE + 3).map(float).collect(),
        local: (0..2 * PIECE).map(float).collect(),
        integers: (0..integers).map(|i| i64::MIN + i as i64).collect(),
    }
}

#[test]
fn integers_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    for carried in
        [large(PIECE + 5), large(0), Carried { integers: vec![i64::MAX, -1], ..Carried::default() }]
    {
        keep(&Carry::open(folder.path()).unwrap(), &place(3), &carried);
        let carry = Carry::open(folder.path()).unwrap();
        assert_eq!(carry.latest(&place(3).run, 4, shape(&carried)), (carried, Some(3)));
    }
}

#[test]
fn a_file_without_integers_is_as_earlier_releases_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let carry = Carry::open(folder.path()).unwrap();
    let carried = Carried { residual: vec![1.0], local: vec![2.0, 3.0], integers: vec![] };
    keep(&carry, &place(7), &carried);
    let mut expected = b"CNCLVCRY".to_vec();
    expected.extend([1, 0, 0, 0, 1, b'r', 7, 0, 0, 0]);
    expected.extend([1u64, 2].iter().flat_map(|length| length.to_le_bytes()));
    expected.extend([1f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()));
    expected.extend(Digest::of(&expected).as_bytes());
    let file = carry.path(&place(7).run, 7);
    assert_eq!(fs::read(&file).unwrap(), expected);

    // With integers there is a length more, and they are last.
    keep(&carry, &place(8), &Carried { integers: vec![-2], ..carried });
    let found = fs::read(carry.path(&place(8).run, 8)).unwrap();
    assert_eq!(found[8..12], [2, 0, 0, 0]);
    assert_eq!(found[34..42], 1u64.to_le_bytes());
    assert_eq!(found[found.len() - 40..found.len() - 32], (-2i64).to_le_bytes());
}

#[test]
fn a_file_with_other_counts_or_a_changed_integer_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let carry = Carry::open(folder.path()).unwrap();
    let carried = Carried { residual: vec![], local: vec![2.0, 3.0], integers: vec![4] };
    keep(&carry, &place(1), &carried);
    let run = place(1).run;
    let none = (Carried::default(), None);
    // As many bytes, other numbers.
    for (local, integers) in [(0, 2), (4, 0), (2, 0), (2, 2)] {
        assert_eq!(carry.latest(&run, 2, Shape { residual: 0, local, integers }), none);
    }
    let path = carry.path(&run, 1);
    let mut file = fs::read(&path).unwrap();
    let at = file.len() - 40;
    file[at] ^= 1;
    fs::write(&path, &file).unwrap();
    assert_eq!(carry.latest(&run, 2, shape(&carried)), none);
    file[at] ^= 1;
    file[8] = 3;
    fs::write(&path, &file).unwrap();
    assert_eq!(carry.latest(&run, 2, shape(&carried)), none);
    file[8] = 2;
    fs::write(&path, &file).unwrap();
    assert_eq!(carry.latest(&run, 2, shape(&carried)), (carried, Some(1)));
}
