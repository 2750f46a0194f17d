"""Text that addresses the reader instead of the customer: the signal, and the attacks it is tested with."""
