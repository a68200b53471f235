//! Objects that are there from the start, for measuring: nothing but zeros, and so no memory but their names.

use std::time::SystemTime;

use super::blob::{Blob, Piece};
use super::error::Result;
use super::model::{Attributes, Condition, Model, Object};

/// Zeros under a key; or, with a count, under as many keys, which are the key and a number of seven digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefill {
    pub key: String,
    pub count: Option<u32>,
    pub size: u64,
}

impl Prefill {
    fn keys(&self) -> Box<dyn Iterator<Item = String> + '_> {
        match self.count {
            None => Box::new(std::iter::once(self.key.clone())),
            Some(count) => Box::new((0..count).map(|n| format!("{}{n:07}", self.key))),
        }
    }
}

/// For a model in null mode: there alone an ETag says nothing of the bytes.
pub(super) fn fill(model: &Model, bucket: &str, prefill: &Prefill) -> Result<()> {
    let modified = SystemTime::now();
    for key in prefill.keys() {
        let mut blob = Blob::default();
        blob.push(Piece::Zeros(prefill.size));
        let object = Object {
            blob,
            etag: model.unique_etag(),
            crc64: None,
            modified,
            attributes: Attributes::default(),
            upload_id: None,
        };
        model.put(bucket, &key, object, &Condition::default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Dialect;

    #[test]
    fn a_count_is_a_directory_of_files_and_none_is_one_file() {
        let model = Model::new(Dialect::default(), true, None);
        model.create_bucket("tank").unwrap();
        let prefill = |key: &str, count, size| Prefill {
            key: key.into(),
            count,
            size,
        };
        fill(&model, "tank", &prefill("large", None, 10 << 30)).unwrap();
        fill(&model, "tank", &prefill("many/", Some(3), 7)).unwrap();
        let found = model.with("tank", |bucket| {
            let sizes = bucket
                .objects
                .iter()
                .map(|(key, o)| (key.clone(), o.blob.len()));
            Ok(sizes.collect::<Vec<_>>())
        });
        let expected = [
            ("large", 10 << 30),
            ("many/0000000", 7),
            ("many/0000001", 7),
            ("many/0000002", 7),
        ];
        assert_eq!(
            found.unwrap(),
            expected.map(|(key, size)| (key.to_string(), size))
        );
    }
}
