//! The capabilities by their names: for those who override one, and for those who look at them.

use super::Capabilities;
use crate::nearest::did_you_mean;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Flag(bool),
    Number(u64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A capability that somebody knows better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    pub name: &'static str,
    pub value: Value,
}

impl std::fmt::Display for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl Override {
    /// What sort of value the capability of this name takes, by an example, and its name for good.
    pub fn known(name: &str) -> Result<(&'static str, Value), String> {
        let fields = super::s3::generic().fields();
        let found = fields.into_iter().find(|(known, _)| *known == name);
        found.ok_or_else(|| {
            let names = || fields.iter().map(|(known, _)| *known);
            let meant = did_you_mean(name, names());
            let all = names().collect::<Vec<_>>().join(", ");
            format!("unknown capability {name:?}{meant} (all: {all})")
        })
    }
}

impl Capabilities {
    /// All by which anything is done. The compiler asks what a new one is called.
    pub fn fields(&self) -> [(&'static str, Value); 20] {
        use Value::{Flag, Number};
        let Capabilities {
            name: _,
            // Nobody knows better whether it is a vault.
            streamed: _,
            // A word of the protocol.
            creates_by: _,
            virtual_host,
            list_v2,
            sorted_lists,
            multi_delete,
            unsigned_payload,
            uploads_by_prefix,
            crc64,
            conditional_writes,
            conditional_creates,
            part_copy,
            copy_conditions,
            rename,
            parts_equal,
            part_min,
            part_max,
            parts_max,
            object_max,
            put_max,
            copy_max,
            key_max,
        } = *self;
        [
            ("virtual_host", Flag(virtual_host)),
            ("list_v2", Flag(list_v2)),
            ("sorted_lists", Flag(sorted_lists)),
            ("multi_delete", Flag(multi_delete)),
            ("unsigned_payload", Flag(unsigned_payload)),
            ("uploads_by_prefix", Flag(uploads_by_prefix)),
            ("crc64", Flag(crc64)),
            ("conditional_writes", Flag(conditional_writes)),
            ("conditional_creates", Flag(conditional_creates)),
            ("part_copy", Flag(part_copy)),
            ("copy_conditions", Flag(copy_conditions)),
            ("rename", Flag(rename)),
            ("parts_equal", Flag(parts_equal)),
            ("part_min", Number(part_min)),
            ("part_max", Number(part_max)),
            ("parts_max", Number(parts_max.into())),
            ("object_max", Number(object_max)),
            ("put_max", Number(put_max)),
            ("copy_max", Number(copy_max)),
            ("key_max", Number(key_max as u64)),
        ]
    }

    /// What is known better. Nothing is taken that no upload could be made with.
    pub fn override_with(&mut self, overrides: &[Override]) -> Result<(), String> {
        use Value::{Flag, Number};
        for one in overrides {
            match (one.name, one.value) {
                ("virtual_host", Flag(flag)) => self.virtual_host = flag,
                ("list_v2", Flag(flag)) => self.list_v2 = flag,
                ("sorted_lists", Flag(flag)) => self.sorted_lists = flag,
                ("multi_delete", Flag(flag)) => self.multi_delete = flag,
                ("unsigned_payload", Flag(flag)) => self.unsigned_payload = flag,
                ("uploads_by_prefix", Flag(flag)) => self.uploads_by_prefix = flag,
                ("crc64", Flag(flag)) => self.crc64 = flag,
                ("conditional_writes", Flag(flag)) => self.conditional_writes = flag,
                ("conditional_creates", Flag(flag)) => self.conditional_creates = flag,
                ("part_copy", Flag(flag)) => self.part_copy = flag,
                ("copy_conditions", Flag(flag)) => self.copy_conditions = flag,
                ("rename", Flag(flag)) => self.rename = flag,
                ("parts_equal", Flag(flag)) => self.parts_equal = flag,
                ("part_min", Number(n)) => self.part_min = n,
                ("part_max", Number(n)) => self.part_max = n,
                ("parts_max", Number(n)) => self.parts_max = u32::try_from(n).unwrap_or(u32::MAX),
                ("object_max", Number(n)) => self.object_max = n,
                ("put_max", Number(n)) => self.put_max = n,
                ("copy_max", Number(n)) => self.copy_max = n,
                ("key_max", Number(n)) => self.key_max = usize::try_from(n).unwrap_or(usize::MAX),
                _ => return Err(format!("the capability {one} is of the wrong kind")),
            }
        }
        // What follows from parts follows from them anew.
        let most = self.part_max.saturating_mul(self.parts_max.into());
        if !overrides.is_empty() {
            self.object_max = self.object_max.min(most);
        }
        self.check()
    }

    /// Do the numbers hold together?
    pub(super) fn check(&self) -> Result<(), String> {
        let most = self.part_max.saturating_mul(self.parts_max.into());
        let wrong = match self {
            c if c.part_min == 0 || c.part_min > c.part_max => "part_min is from 1 to part_max",
            c if c.parts_max == 0 || c.parts_max > 10_000 => "parts_max is from 1 to 10000",
            c if c.object_max > most => "object_max is at most parts_max of part_max each",
            c if c.key_max == 0 || c.key_max > 1024 => "key_max is from 1 to 1024",
            _ => return Ok(()),
        };
        Err(format!("the capabilities do not hold together: {wrong}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_can_be_overridden_by_the_name_it_is_shown_by() {
        let mut capabilities = super::super::s3::generic();
        for (name, value) in capabilities.fields() {
            let other = match value {
                Value::Flag(flag) => Value::Flag(!flag),
                Value::Number(number) => Value::Number(number - 1),
            };
            assert_eq!(Override::known(name).map(|known| known.0), Ok(name));
            let one = Override { name, value: other };
            let kept = capabilities.clone();
            assert_eq!(capabilities.override_with(&[one]), Ok(()), "{name}");
            let shown = capabilities.fields().into_iter().find(|f| f.0 == name);
            assert_eq!(shown, Some((name, other)));
            capabilities = kept;
        }
    }

    #[test]
    fn what_is_not_known_meets_the_nearest_word() {
        let error = Override::known("list_v1").expect_err("unknown");
        assert!(error.contains("did you mean \"list_v2\""), "{error}");
    }

    #[test]
    fn what_no_upload_could_be_made_with_is_refused() {
        for (name, number) in [
            ("part_min", 0),
            ("parts_max", 0),
            ("part_max", 1),
            ("key_max", 0),
        ] {
            let value = Value::Number(number);
            let overridden = super::super::s3::generic().override_with(&[Override { name, value }]);
            assert!(overridden.is_err(), "{name}");
        }
    }
}
