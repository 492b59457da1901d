"""What is measured: attention variants, cases, model presets, and the grammar that makes a list of cases.

Arithmetic alone: nothing here imports torch or touches a device.
"""
