use proptest::prelude::*;

use super::*;

fn features() -> Vec<String> {
    vec!["length".into(), "width".into()]
}

fn good(text: &str) -> Vec<f32> {
    let rows = Rows::parse("t", text.as_bytes(), &features()).unwrap();
    assert_eq!(rows.count() * 2, rows.values.len());
    rows.values
}

fn fault(text: &str) -> String {
    Rows::parse("t", text.as_bytes(), &features()).unwrap_err().to_string()
}

#[test]
fn csv_with_and_without_header() {
    assert_eq!(good("5.1,3.5\n4.9,3\n"), [5.1, 3.5, 4.9, 3.0]);
    assert_eq!(good("length,width\n5.1,3.5\n"), [5.1, 3.5]);
    // Other order, other columns, blanks, a byte order mark, an empty line, no last newline.
    assert_eq!(good("\u{feff}width, species ,length\n\n3.5,setosa, 5.1"), [5.1, 3.5]);
    assert_eq!(good("-1e3,+2\r\n"), [-1000.0, 2.0]);
}

#[test]
fn json_rows() {
    assert_eq!(good(" [[5.1, 3.5], [4, -3e1]]"), [5.1, 3.5, 4.0, -30.0]);
}

#[test]
fn csv_faults_name_the_place() {
    assert_eq!(
        fault("length,w\n1,2\n"),
        "t, line 1: no column 'width'; the first line is taken as a header because it is not all numbers, and it \
         has: length, w"
    );
    assert_eq!(fault("length,width,width\n1,2,3\n"), "t, line 1: column 'width' occurs twice");
    assert_eq!(fault("1,2\n3,x\n"), "t, line 2, column 2 (width): 'x' is not a number");
    assert_eq!(fault("width,length\n1,2\n\n3,\n"), "t, line 4, column 2 (length): '' is not a number");
    assert_eq!(fault("1,nan\n"), "t, line 1, column 2 (width): 'nan' is not a number that a model can take");
    assert_eq!(fault("1,inf\n"), "t, line 1, column 2 (width): 'inf' is beyond the range of 32-bit floats");
    assert_eq!(fault("1,1e39\n"), "t, line 1, column 2 (width): '1e39' is beyond the range of 32-bit floats");
    assert_eq!(fault("1,2,3\n"), "t, line 1: 3 values, 2 are needed: length, width");
    assert_eq!(fault("width,length,x\n1,2\n"), "t, line 2: 2 values, 3 are needed, as the header has");
    assert_eq!(fault("1,2\r\n\r\n3,x\r\n"), "t, line 3, column 2 (width): 'x' is not a number");
    for empty in ["", " \n", "length,width\n"] {
        assert_eq!(fault(empty), "t holds no row");
    }
    let error = Rows::parse("t", b"1,2\n\n\xff,3\n", &features()).unwrap_err().to_string();
    assert_eq!(error, "t: line 3 is not UTF-8 text");
}

#[test]
fn json_faults_name_the_place() {
    assert_eq!(fault("[]"), "t holds no row");
    assert_eq!(
        fault("[1, 2]"),
        "t: row 1 is not a list; a list of rows is needed, such as [[5.1, 3.5], [4.9, 3.0]]"
    );
    assert_eq!(fault("{}"), "t: a list of rows is needed, such as [[5.1, 3.5], [4.9, 3.0]]");
    assert_eq!(fault("[[1,2],[3]]"), "t, row 2: 1 values, 2 are needed: length, width");
    assert_eq!(fault("[[1,null]]"), "t, row 1, column 2 (width): 'null' is not a number");
    assert_eq!(
        fault("[[1,1e39]]"),
        "t, row 1, column 2 (width): '1e+39' is beyond the range of 32-bit floats"
    );
    assert_eq!(fault("[[1,NaN]]"), "t: expected value at line 1 column 5");
}

#[test]
fn files_are_named() {
    let missing = Rows::read(Path::new("no/such.csv"), &features()).unwrap_err().to_string();
    assert!(missing.starts_with("read no/such.csv: "), "{missing}");
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Rows::parse("t", &bytes, &features());
    }

    #[test]
    fn foreign_text_never_panics(text in "[\\[\\]{},0-9.e\"\nnaif -]{0,80}") {
        if let Ok(rows) = Rows::parse("t", text.as_bytes(), &features()) {
            prop_assert!(rows.count() > 0 && rows.values.iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn what_is_written_is_read(values in proptest::collection::vec(-1e30f32..1e30, 2..20)) {
        let values = &values[..values.len() / 2 * 2];
        let pairs = || values.chunks(2);
        let csv: String = pairs().map(|p| format!("{},{}\n", p[0], p[1])).collect();
        prop_assert_eq!(good(&csv), values);
        let json: Vec<String> = pairs().map(|p| format!("[{},{}]", p[0], p[1])).collect();
        prop_assert_eq!(good(&format!("[{}]", json.join(","))), values);
    }
}
