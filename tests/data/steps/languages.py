"""A page of medical prose in each language that every step must leave alone."""
# ruff: noqa: E501

from __future__ import annotations

PAGES = {
    "en": (
        "Iron deficiency is the most common cause of anaemia in adults, and most people who have it first notice that "
        "they tire more easily than before. The diagnosis is made with a blood count and the measurement of ferritin. "
        "A low ferritin confirms that the stores are empty, whereas a normal value does not exclude it when there is "
        "inflammation.\n\nTreatment begins with the cause. Blood loss from the bowel has to be looked for in men and in "
        "women after the menopause. Iron tablets are taken on an empty stomach every second day, because the gut takes "
        "up less of a second dose that follows too soon. The haemoglobin should rise by about 20 g/l within four weeks, "
        "and the tablets are continued for three months after it has become normal, so that the stores are filled again."
    ),
    "fr": (
        "La carence en fer est la cause la plus fréquente d'anémie chez l'adulte, et la plupart des patients remarquent "
        "d'abord qu'ils se fatiguent plus vite qu'avant. Le diagnostic repose sur l'hémogramme et sur le dosage de la "
        "ferritine. Une ferritine basse confirme que les réserves sont vides, alors qu'une valeur normale ne l'exclut "
        "pas en cas d'inflammation.\n\nLe traitement commence par la cause. Il faut chercher un saignement digestif chez "
        "l'homme et chez la femme ménopausée. Les comprimés de fer se prennent à jeun un jour sur deux, car l'intestin "
        "absorbe moins bien une dose qui suit de trop près la précédente. L'hémoglobine doit monter d'environ 20 g/l en "
        "quatre semaines, et l'on poursuit le traitement trois mois après sa normalisation afin de remplir les réserves."
    ),
    "es": (
        "La falta de hierro es la causa más frecuente de anemia en los adultos, y la mayoría de los pacientes nota "
        "primero que se cansa más que antes. El diagnóstico se hace con un hemograma y con la medición de la ferritina. "
        "Una ferritina baja confirma que los depósitos están vacíos, mientras que un valor normal no la descarta cuando "
        "hay inflamación.\n\nEl tratamiento empieza por la causa. En los hombres y en las mujeres después de la menopausia "
        "hay que buscar una pérdida de sangre por el intestino. Los comprimidos de hierro se toman en ayunas cada dos "
        "días, porque el intestino absorbe peor una dosis que sigue demasiado pronto a la anterior. La hemoglobina debe "
        "subir unos 20 g/l en cuatro semanas, y los comprimidos se continúan tres meses después de que sea normal."
    ),
    "it": (
        "La carenza di ferro è la causa più comune di anemia negli adulti, e la maggior parte dei pazienti si accorge "
        "per prima cosa di stancarsi più di prima. La diagnosi si fa con l'emocromo e con la misura della ferritina. "
        "Una ferritina bassa conferma che le riserve sono vuote, mentre un valore normale non la esclude quando c'è "
        "un'infiammazione.\n\nLa cura comincia dalla causa. Negli uomini e nelle donne dopo la menopausa si deve cercare "
        "una perdita di sangue dall'intestino. Le compresse di ferro si prendono a digiuno ogni due giorni, perché "
        "l'intestino assorbe meno una dose che segue troppo presto la precedente. L'emoglobina deve salire di circa 20 "
        "g/l in quattro settimane, e le compresse si continuano per tre mesi dopo che è tornata normale."
    ),
    "zh": (
        "缺铁是成年人贫血最常见的原因，多数患者最先注意到的是比以前更容易疲劳。诊断依靠血常规检查和血清铁蛋白的测定。"
        "铁蛋白降低说明体内的储存铁已经耗尽，而在有炎症的时候，数值正常也不能排除缺铁。\n\n"
        "治疗从寻找病因开始。男性和绝经后的女性应当检查胃肠道有没有出血。口服铁剂宜隔日空腹服用，"
        "因为前后两次服药间隔太短会使肠道的吸收减少。血红蛋白在四周之内应当上升大约二十克每升，"
        "恢复正常以后还要继续服药三个月，这样才能使储存铁得到补充。"
    ),
}
