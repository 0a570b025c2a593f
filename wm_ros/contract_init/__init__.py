"""A stream contract proposed from what bags hold, for a person to check and edit."""

from wm_ros.contract_init.propose import Proposal, Wish, propose, try_out

__all__ = ['Proposal', 'Wish', 'propose', 'try_out']
