//! The condition of a write, as the store takes it: `If-Match` and `If-None-Match`, or a header of the vendor's
//! own that keeps new objects from replacing others.
//!
//! Where only new objects can be guarded ([`Capabilities::conditional_creates`](crate::store::Capabilities)), the
//! version that is to be replaced is looked at before the first attempt: what somebody wrote until then is kept, and
//! what is written between that look and ours is not.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::S3Store;
use super::classify::Op;
use super::forms::quoted;
use crate::store::{ETag, ErrorKind, Precondition, Result, Store};

/// A header of a request, if any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Guard(Option<(&'static str, String)>);

impl S3Store {
    pub(super) async fn guard(&self, op: Op, key: &str, condition: &Precondition) -> Result<Guard> {
        let can = &self.capabilities;
        let any = || "*".to_string();
        Ok(Guard(match condition {
            Precondition::None => None,
            Precondition::Matches(etag) if can.conditional_writes => {
                Some(("if-match", quoted(etag)))
            }
            Precondition::Absent if can.conditional_writes => Some(("if-none-match", any())),
            Precondition::Matches(etag) if can.conditional_creates => {
                self.expect_version(op, key, etag).await?;
                None
            }
            Precondition::Absent if can.conditional_creates => Some(match can.creates_by {
                Some(header) => (header, "true".to_string()),
                None => ("if-none-match", any()),
            }),
            // It would be ignored in silence, and somebody else's version overwritten.
            Precondition::Matches(_) | Precondition::Absent => {
                let message = format!("{} does not honour conditions on writes", can.name);
                return Err(op.error(ErrorKind::Invalid, key, "ConditionUnsupported", &message));
            }
        }))
    }

    async fn expect_version(&self, op: Op, key: &str, version: &ETag) -> Result<()> {
        match self.head(key).await {
            Ok(found) if found.etag == *version => Ok(()),
            Err(error) if error.kind != ErrorKind::Missing => Err(error),
            _ => {
                let message = "it has been replaced or deleted while its new version was written";
                Err(op.error(ErrorKind::Conflict, key, "PreconditionFailed", message))
            }
        }
    }
}

impl Intercept for Guard {
    fn name(&self) -> &'static str {
        "Guard"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if let Some((name, value)) = &self.0 {
            context
                .request_mut()
                .headers_mut()
                .insert(*name, value.clone());
        }
        Ok(())
    }
}
