//! What a request's signature says of its body: nothing (`UNSIGNED-PAYLOAD`), or its SHA-256, for stores that
//! take no other. TLS and the body's own checksum vouch for it in any case.

use std::fmt::Write;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use ring::digest::{Context, SHA256};

use crate::store::Body;

#[derive(Clone, Debug)]
pub(super) struct Payload(PayloadSigningOverride);

impl Payload {
    pub fn unsigned() -> Payload {
        Payload(PayloadSigningOverride::UnsignedPayload)
    }

    /// Takes as long as hashing does.
    pub fn hashed(body: &Body) -> Payload {
        let mut hash = Context::new(&SHA256);
        for chunk in body.chunks() {
            hash.update(chunk);
        }
        let mut hex = String::with_capacity(64);
        for byte in hash.finish().as_ref() {
            // Writing to a String does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Payload(PayloadSigningOverride::Precomputed(hex))
    }
}

impl Intercept for Payload {
    fn name(&self) -> &'static str {
        "Payload"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(self.0.clone());
        Ok(())
    }
}
