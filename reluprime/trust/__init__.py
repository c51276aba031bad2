"""Whether anything is lost, silently wrong or let in when the package is mistreated."""

from reluprime.trust.study import TrustConfig, campaign

__all__ = ["TrustConfig", "campaign"]
