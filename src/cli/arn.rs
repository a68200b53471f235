//! Access points of Amazon's, named by their ARN where a bucket's name could be. Pure.

/// `arn:…:accesspoint/NAME/PREFIX` into the access point and the prefix; `None` for what is no ARN.
pub(super) fn split(source: &str) -> Option<Result<(&str, &str), String>> {
    source.starts_with("arn:").then(|| {
        let resource = source.splitn(6, ':').nth(5).unwrap_or_default();
        let before = source.len() - resource.len();
        let region = source.split(':').nth(3).unwrap_or_default();
        let Some(named) = end_of_name(resource) else {
            return Err(format!(
                "{source:?} is not the ARN of an access point: write arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME"
            ));
        };
        if region.is_empty() {
            return Err(format!(
                "{source:?} is an access point of several regions, whose signature wholefs does not make: name the access point of one region"
            ));
        }
        let (point, prefix) = source.split_at(before + named);
        Ok((point, prefix.strip_prefix('/').unwrap_or(prefix)))
    })
}

/// Where the name ends in `accesspoint/NAME…`, or in `outpost/ID/accesspoint/NAME…`. Colons separate as well.
fn end_of_name(resource: &str) -> Option<usize> {
    let separates = |c: char| c == '/' || c == ':';
    let mut at = 0;
    let mut next = || {
        let rest = resource.get(at..)?;
        let word = &rest[..rest.find(separates).unwrap_or(rest.len())];
        at += word.len() + 1;
        (!word.is_empty()).then_some((word, at - 1))
    };
    match next()?.0 {
        "accesspoint" => {}
        "outpost" => {
            next()?;
            (next()?.0 == "accesspoint").then_some(())?;
        }
        _ => return None,
    }
    Some(next()?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_point_ends_where_its_name_does() {
        let point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/logs";
        let outpost = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/logs";
        let colons = "arn:aws:s3:eu-west-1:123456789012:accesspoint:logs";
        for point in [point, outpost, colons] {
            for (rest, prefix) in [
                ("", ""),
                ("/", ""),
                ("/2026", "2026"),
                ("/a:b/c/", "a:b/c/"),
            ] {
                let source = format!("{point}{rest}");
                assert_eq!(split(&source), Some(Ok((point, prefix))), "{source}");
            }
        }
        assert_eq!(split("bucket/prefix"), None);
        for bad in [
            "arn:",
            "arn:aws:s3:::bucket",
            "arn:aws:s3:::bucket/prefix",
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/",
            "arn:aws:s3:eu-west-1:123456789012:accesspoint",
            "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
        ] {
            assert!(split(bad).expect(bad).is_err(), "{bad}");
        }
    }
}
