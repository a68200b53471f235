//! An object's time in a form the SDK does not know is no reason not to read the object: brought into the
//! form it knows, where it can be understood, else left out.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

const NAME: &str = "last-modified";

#[derive(Clone, Debug)]
pub(super) struct Dates;

impl Intercept for Dates {
    fn name(&self) -> &'static str {
        "Dates"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response_mut().headers_mut();
        if let Some(text) = headers.get(NAME).map(str::to_string)
            && DateTime::from_str(&text, DateTimeFormat::HttpDate).is_err()
        {
            headers.remove(NAME);
            if let Some(date) = in_the_usual_form(&text) {
                headers.try_insert(NAME, date)?;
            }
        }
        Ok(())
    }
}

/// Of ISO 8601's.
fn in_the_usual_form(text: &str) -> Option<String> {
    let date = DateTime::from_str(text.trim(), DateTimeFormat::DateTimeWithOffset).ok()?;
    date.fmt(DateTimeFormat::HttpDate).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_understood_is() {
        let usual = Some("Tue, 24 Nov 2026 10:21:29 GMT".to_string());
        for known in ["2026-11-24T10:21:29Z", " 2026-11-24T12:21:29+02:00"] {
            assert_eq!(in_the_usual_form(known), usual, "{known}");
        }
        for unknown in ["", "yesterday", "1795515689", "24.11.2026"] {
            assert_eq!(in_the_usual_form(unknown), None, "{unknown}");
        }
    }
}
