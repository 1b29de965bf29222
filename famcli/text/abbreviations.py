"""Abbreviations by what they say about the end of a sentence: the one place to add some.

Kept here and in no package: the libraries that have such lists need the whole text, dependencies or models for what
are a few lines of data.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Never the end of a sentence before a capital: a name or a title follows.
TITLES = words(
    """
    mr mrs ms messrs mme mlle mmes m dr drs prof st sr fr rev hon pres gov sen rep gen col maj capt cmdr comdr lt lieut
    sgt cpl adm vs cf brig pvt pfc sfc ens insp supt atty amb det asst assoc treas visct rt e.g i.e viz vols chap mt ft
    bros al feat approx dept est
    herr bzw ing dipl prim priv univ.-prof
    sra srta dra drs sres excmo ilmo
    sig dott avv geom
    mej dhr mevr
    """
)
# The end only if a word follows that begins sentences: "in the U.S. He ...".
SHORTENED = words(
    """
    jr co inc ltd corp u.s u.k u.n e.u u.s.a d.c ph.d m.d b.a m.a jan feb apr jun jul aug sept oct nov dec ave blvd
    z.b d.h u.a o.\u00e4 i.d.r usw nr hrsg evtl ggf inkl vgl sog str
    p.ej ee.uu ud uds pag
    d.w.z bijv enz
    """
)
# The same, if they are written with a capital: in small letters they are words. Reporters, courts, codes and states of
# legal citations, and parts of the names of institutions.
CAPITALIZED = words(
    """
    fed civ crim evid proc bankr app supp ct cts cir dist div stat const pub reg regs rev ins comm admin cmty
    ass'n assn int'l nat'l dep't gov't univ inst acad soc lib mus mfg bldg bhd indus intl natl mut ry
    ala ariz cal calif colo conn fla ga ill ind kan ky la mass md mich minn miss mont neb nev okla
    penn tenn tex va vt wash wis wyo ont que
    """
)
# Not the end before a number, also a Roman one.
COUNTED = words(
    """
    no nos vol p pp fig figs eq eqs sec secs ch art arts c ca ed eds op cit n\u00b0 v l ll chap app cl para paras
    pt pts tit subd subsec reg ex exh tbl anm abs ziff kap bd s num
    bundesgesetzbl reichsgesetzbl bgbl rgbl gbl abl
    """
)
