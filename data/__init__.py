"""From files to records, clean text, windows and splits.

`taxonomy` (policies), `records` (contract, readers, writers), `cleaning` (one function for training and scoring), `windows`,
`passages`, `splitting`, `augmentation`, and `shipped` (the corpus and the phrasebook of this package).
"""
