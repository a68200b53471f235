//! The bucket's own rule against uploads left open: the last net, for machines that never come back.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule,
    LifecycleRuleFilter,
};

use super::S3Store;
use super::classify::Op;
use crate::store::Result;

/// The name of the rule that [`S3Store::add_abort_rule`] adds.
pub const ABORT_RULE: &str = "abort-incomplete-uploads";

impl S3Store {
    /// After how many days the bucket aborts an upload below our prefix by itself, if it does.
    pub async fn aborts_after(&self) -> Result<Option<i32>> {
        let prefix = self.prefix.as_str();
        let holds = |rule: &LifecycleRule| {
            let filter = rule.filter().and_then(|filter| filter.prefix());
            // The older form has its prefix elsewhere.
            #[allow(deprecated)]
            let of = filter.or(rule.prefix()).unwrap_or_default();
            *rule.status() == ExpirationStatus::Enabled && prefix.starts_with(of)
        };
        let rules = self.rules().await?;
        let days = rules.iter().filter(|rule| holds(rule)).filter_map(|rule| {
            let rule = rule.abort_incomplete_multipart_upload()?;
            rule.days_after_initiation()
        });
        Ok(days.min())
    }

    /// Adds such a rule for the whole bucket, beside those that are there.
    pub async fn add_abort_rule(&self, days: i32) -> Result<()> {
        let op = Op::PUT_LIFECYCLE;
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(days);
        let rule = LifecycleRule::builder()
            .id(ABORT_RULE)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("").build())
            .abort_incomplete_multipart_upload(abort.build())
            .build();
        let wrong = |error: String| op.error(crate::store::ErrorKind::Invalid, "", "Rule", &error);
        let rule = rule.map_err(|error| wrong(error.to_string()))?;
        let mut rules = self.rules().await?;
        rules.retain(|rule| rule.id() != Some(ABORT_RULE));
        rules.push(rule);
        let all = BucketLifecycleConfiguration::builder().set_rules(Some(rules));
        let all = all.build().map_err(|error| wrong(error.to_string()))?;
        let request = || {
            self.client
                .put_bucket_lifecycle_configuration()
                .bucket(&self.bucket)
                .lifecycle_configuration(all.clone())
                .send()
        };
        self.call(op, "", self.patience(0), request, |_| Ok(()))
            .await
    }

    async fn rules(&self) -> Result<Vec<LifecycleRule>> {
        let request = || {
            self.client
                .get_bucket_lifecycle_configuration()
                .bucket(&self.bucket)
                .send()
        };
        let answer = self
            .call(Op::GET_LIFECYCLE, "", self.patience(0), request, |found| {
                Ok(found.rules().to_vec())
            })
            .await;
        match answer {
            Err(error) if error.code == "NoSuchLifecycleConfiguration" => Ok(Vec::new()),
            answer => answer,
        }
    }
}
