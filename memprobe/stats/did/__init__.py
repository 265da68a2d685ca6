"""Difference in differences over cohorts of items: `profile` estimates effects, `Design` sets the method.

Other packages import from here only, not from the modules inside.
"""

from memprobe.stats.did.design import NO_BASE, Design
from memprobe.stats.did.estimates import Estimate
from memprobe.stats.did.profile import Profile, profile

__all__ = ["NO_BASE", "Design", "Estimate", "Profile", "profile"]
