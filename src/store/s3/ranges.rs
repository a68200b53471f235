//! A part of an object that does not say which (206 without Content-Range) could be taken for the whole of it, by
//! somebody who was told a wrong size: it is marked, and no object's bytes are read from it.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

const NAME: &str = "content-range";

/// No range that is asked for.
pub(super) const UNSAID: &str = "unsaid";

#[derive(Clone, Debug)]
pub(super) struct Ranges;

impl Intercept for Ranges {
    fn name(&self) -> &'static str {
        "Ranges"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        if answer.status().as_u16() == 206 && answer.headers().get(NAME).is_none() {
            answer.headers_mut().try_insert(NAME, UNSAID)?;
        }
        Ok(())
    }
}
