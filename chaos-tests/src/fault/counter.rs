//! What a broker counts of itself.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The sum over all labels of a counter that the broker with this HTTP address shows; 0 when it shows
/// none.
pub(super) async fn read_counter(address: &str, name: &str) -> anyhow::Result<f64> {
    let page = tokio::time::timeout(TIMEOUT, page(address)).await;
    let page = page.with_context(|| format!("{address} did not show its metrics in time"))??;
    Ok(sum(&page, name))
}

async fn page(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    ensure!(page.starts_with("HTTP/1.0 200"), "{address} answered {:?}", page.lines().next());
    Ok(page)
}

fn sum(page: &str, name: &str) -> f64 {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE a_total counter\na_total{port=\"x y\"} 2\n\
                    a_total{port=\"z\"} 3\na_total_more 7\nb_total 9\n";
        assert_eq!(sum(page, "a_total"), 5.0);
        assert_eq!(sum(page, "b_total"), 9.0);
        assert_eq!(sum(page, "c_total"), 0.0);
    }
}
