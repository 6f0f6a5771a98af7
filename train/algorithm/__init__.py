"""Algorithm 1 and its losses (Eq. 3-7), the centres, mixup and distillation."""
