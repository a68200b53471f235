use super::super::blob::Piece;
use super::super::digest::md5_hex;
use super::*;
use bytes::Bytes;

fn blob(bytes: &'static [u8]) -> Blob {
    let mut blob = Blob::default();
    blob.push(Piece::Bytes(Bytes::from_static(bytes)));
    blob
}

fn object(bytes: &'static [u8]) -> Object {
    Object {
        blob: blob(bytes),
        etag: md5_hex(bytes),
        crc64: None,
        modified: SystemTime::now(),
        attributes: Attributes::default(),
        upload_id: None,
    }
}

fn part(bytes: &'static [u8]) -> Part {
    Part {
        blob: blob(bytes),
        etag: md5_hex(bytes),
        crc64: None,
        modified: SystemTime::now(),
    }
}

fn upload() -> Upload {
    Upload {
        attributes: Attributes::default(),
        initiated: SystemTime::now(),
        initiator: "me".into(),
        checksummed: false,
        parts: BTreeMap::new(),
    }
}

fn model(dialect: Dialect) -> Model {
    let model = Model::new(dialect, false, None);
    model.create_bucket("b").unwrap();
    model
}

fn all_of(numbers: &[i64]) -> multipart::Request {
    let parts = numbers.iter().map(|&number| multipart::Listed {
        number,
        ..Default::default()
    });
    multipart::Request {
        parts: parts.collect(),
        ..Default::default()
    }
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code
}

#[test]
fn conditions_of_writes() {
    let none = Condition::default();
    let absent = Condition {
        if_absent: true,
        ..none.clone()
    };
    let of = |bytes: &[u8]| Condition {
        if_match: Some(md5_hex(bytes)),
        ..Condition::default()
    };
    let model = model(Dialect::default());
    assert_eq!(
        code(model.put("b", "k", object(b"1"), &of(b"0"))),
        "NoSuchKey"
    );
    model.put("b", "k", object(b"1"), &absent).unwrap();
    assert_eq!(
        code(model.put("b", "k", object(b"2"), &absent)),
        "PreconditionFailed"
    );
    assert_eq!(
        code(model.put("b", "k", object(b"2"), &of(b"0"))),
        "PreconditionFailed"
    );
    assert_eq!(model.object("b", "k").unwrap().blob.to_vec().unwrap(), b"1");
    model.put("b", "k", object(b"2"), &of(b"1")).unwrap();
    assert_eq!(
        code(model.delete("b", "k", &of(b"1"))),
        "PreconditionFailed"
    );
    model.delete("b", "k", &of(b"2")).unwrap();
    model.delete("b", "k", &none).unwrap();
    assert_eq!(code(model.object("b", "k")), "NoSuchKey");
    assert_eq!(code(model.object("c", "k")), "NoSuchBucket");

    let ignoring = self::model(Dialect {
        conditional_writes: ConditionalWrites::Ignored,
        ..Dialect::default()
    });
    ignoring.put("b", "k", object(b"1"), &of(b"0")).unwrap();
    ignoring.put("b", "k", object(b"2"), &absent).unwrap();
    assert_eq!(
        ignoring.object("b", "k").unwrap().blob.to_vec().unwrap(),
        b"2"
    );
}

#[test]
fn an_upload_belongs_to_its_key() {
    let model = model(Dialect::default());
    let id = model.create_upload("b", "k", upload()).unwrap();
    let now = Instant::now();
    assert_eq!(
        code(model.put_part("b", "other", &id, 1, part(b"x"), now)),
        "NoSuchUpload"
    );
    model.put_part("b", "k", &id, 1, part(b"x"), now).unwrap();
    let none = Condition::default();
    assert_eq!(
        code(model.complete("b", "other", &id, &all_of(&[1]), &none)),
        "NoSuchUpload"
    );
    assert_eq!(code(model.abort("b", "other", &id)), "NoSuchUpload");
    model.complete("b", "k", &id, &all_of(&[1]), &none).unwrap();
    assert_eq!(
        code(model.complete("b", "other", &id, &all_of(&[1]), &none)),
        "NoSuchUpload"
    );
}

#[test]
fn a_part_uploaded_again_replaces_the_first() {
    let model = model(Dialect::default());
    let id = model.create_upload("b", "k", upload()).unwrap();
    for bytes in [&b"first"[..], b"second"] {
        model
            .put_part("b", "k", &id, 1, part(bytes), Instant::now())
            .unwrap();
    }
    let made = model
        .complete("b", "k", &id, &all_of(&[1]), &Condition::default())
        .unwrap();
    assert_eq!(made.blob.to_vec().unwrap(), b"second");
}

#[test]
fn a_failed_complete_leaves_upload_and_object_as_they_were() {
    let model = model(Dialect::default());
    model
        .put("b", "k", object(b"old"), &Condition::default())
        .unwrap();
    let id = model.create_upload("b", "k", upload()).unwrap();
    model
        .put_part("b", "k", &id, 1, part(b"new"), Instant::now())
        .unwrap();
    let absent = Condition {
        if_absent: true,
        ..Condition::default()
    };
    assert_eq!(
        code(model.complete("b", "k", &id, &all_of(&[1]), &absent)),
        "PreconditionFailed"
    );
    assert_eq!(
        code(model.complete("b", "k", &id, &all_of(&[2]), &absent)),
        "InvalidPart"
    );
    assert_eq!(
        model.object("b", "k").unwrap().blob.to_vec().unwrap(),
        b"old"
    );
    assert!(model.expect_upload("b", "k", &id).is_ok());
}

#[test]
fn completing_twice_is_a_matter_of_dialect() {
    for (repeated, expected) in [
        (CompleteRepeated::Succeeds, Ok(())),
        (CompleteRepeated::NoSuchUpload, Err("NoSuchUpload")),
    ] {
        let model = model(Dialect {
            complete_repeated: repeated,
            ..Dialect::default()
        });
        let id = model.create_upload("b", "k", upload()).unwrap();
        model
            .put_part("b", "k", &id, 1, part(b"x"), Instant::now())
            .unwrap();
        let none = Condition::default();
        let first = model.complete("b", "k", &id, &all_of(&[1]), &none).unwrap();
        let again = model.complete("b", "k", &id, &all_of(&[1]), &none);
        match expected {
            Ok(()) => assert_eq!(again.unwrap().etag, first.etag),
            Err(expected) => assert_eq!(code(again), expected),
        }
        // Either way a completed upload is no longer there to abort.
        assert_eq!(code(model.abort("b", "k", &id)), "NoSuchUpload");
        assert!(model.object("b", "k").is_ok());
    }
}

#[test]
fn parts_in_flight_land_after_an_abort_where_the_dialect_says_so() {
    for lands in [false, true] {
        let model = model(Dialect {
            parts_land_after_abort: lands,
            ..Dialect::default()
        });
        let id = model.create_upload("b", "k", upload()).unwrap();
        model
            .put_part("b", "k", &id, 1, part(b"x"), Instant::now())
            .unwrap();
        let before = Instant::now();
        model.abort("b", "k", &id).unwrap();
        let late = model.put_part("b", "k", &id, 2, part(b"y"), before);
        if lands {
            late.unwrap();
            let numbers: Vec<u32> = model
                .with("b", |b| {
                    Ok(b.upload("k", &id)?.parts.keys().copied().collect())
                })
                .unwrap();
            assert_eq!(numbers, [2], "the parts from before the abort are gone");
            model.abort("b", "k", &id).unwrap();
        } else {
            assert_eq!(code(late), "NoSuchUpload");
        }
        // A part that was sent after the last abort never lands.
        let after = Instant::now();
        assert_eq!(
            code(model.put_part("b", "k", &id, 3, part(b"z"), after)),
            "NoSuchUpload"
        );
        assert_eq!(code(model.abort("b", "k", &id)), "NoSuchUpload");
    }
}

#[test]
fn upload_ids_grow() {
    let model = model(Dialect::default());
    let ids: Vec<String> = (0..100)
        .map(|_| model.create_upload("b", "k", upload()).unwrap())
        .collect();
    assert!(ids.is_sorted());
}
