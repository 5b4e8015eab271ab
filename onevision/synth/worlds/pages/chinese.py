"""The Chinese language of pages: words and phrases."""

# ruff: noqa: RUF001 -- Chinese punctuation is meant.

from onevision.synth.kit.words import split
from onevision.synth.worlds.pages.language import (
    BoardPhrases,
    FormPhrases,
    Language,
    LetterPhrases,
    PosterPhrases,
    ReceiptPhrases,
    WordLists,
)

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧"
_GIVEN = split("""
    小明, 建国, 丽华, 志强, 秀英, 海燕, 文静, 晓东, 春梅, 国庆, 玉兰, 家豪, 思远, 雨桐, 子涵, 浩然,
    欣怡, 天宇, 美玲, 永康, 佳琪, 俊杰, 婷婷, 立新, 伟, 芳, 娜, 敏, 静, 磊, 洋, 艳, 勇, 杰, 涛, 明,
    霞, 平, 刚, 桂
""")
_PEOPLE = tuple(
    f"{surname}{_GIVEN[(5 * n + 7 * k) % len(_GIVEN)]}"
    for n, surname in enumerate(_SURNAMES)
    for k in range(9)
)
_ROADS = split("""
    人民路, 中山路, 解放路, 建设路, 和平街, 新华路, 文化路, 长江路, 黄河路, 北京路, 南京路, 胜利街,
    光明路, 幸福街, 朝阳路, 东风路, 学院路, 花园路, 青年街, 友谊路, 滨河路, 公园街, 西湖路
""")
_STREETS = tuple(
    f"{road}{(37 * n) % 260 + 1 + k}号" for n, road in enumerate(_ROADS) for k in (0, 8, 51)
)

CHINESE = Language(
    face="chinese",
    words=WordLists(
        people=_PEOPLE,
        shops=split("""
            幸福超市, 好邻居便利店, 东方百货, 春天花店, 新华书店, 小吃天地, 老王面馆, 阳光超市,
            绿叶水果店, 天天便利店, 金龙饭店, 四季茶庄, 快乐文具店, 大众药店, 美味面包房,
            家家乐超市, 江南小馆, 北方饺子馆, 星月咖啡, 万家商场, 红星商店
        """),
        streets=_STREETS,
        cities=split("""
            北京, 上海, 广州, 深圳, 天津, 重庆, 成都, 武汉, 西安, 南京, 杭州, 苏州, 青岛, 大连,
            厦门, 长沙, 郑州, 济南, 昆明, 贵阳, 哈尔滨, 沈阳, 合肥, 福州, 南宁, 海口, 兰州, 太原,
            无锡, 宁波, 桂林, 拉萨, 银川, 南昌, 洛阳, 珠海
        """),
        goods=split("""
            苹果, 香蕉, 橙子, 葡萄, 西瓜, 牛奶, 酸奶, 面包, 鸡蛋, 大米, 面条, 豆腐, 白菜, 土豆,
            番茄, 黄瓜, 胡萝卜, 洋葱, 牛肉, 鸡肉, 饺子, 包子, 绿茶, 红茶, 咖啡, 果汁, 可乐, 矿泉水,
            酱油, 白糖, 食用油, 饼干, 薯片, 巧克力, 糖果, 冰淇淋, 蛋糕, 花生, 蜂蜜, 毛巾, 牙膏,
            牙刷, 肥皂, 纸巾, 洗发水, 铅笔, 钢笔, 笔记本, 雨伞, 电池, 灯泡, 袜子, 帽子, 杯子, 剪刀
        """),
        jobs=split("""
            医生, 老师, 护士, 司机, 厨师, 律师, 工程师, 会计, 记者, 警察, 农民, 画家, 歌手, 演员,
            作家, 翻译, 导游, 裁缝, 木工, 电工, 秘书, 教授, 学生, 店员
        """),
        events=split("""
            音乐会, 书画展, 读书会, 美食节, 电影之夜, 春季运动会, 跳蚤市场, 摄影比赛, 舞蹈晚会,
            象棋比赛, 科技展览, 花卉展, 诗歌朗诵会, 元宵灯会, 新年晚会, 茶艺讲座, 亲子活动, 招聘会,
            风筝节, 戏曲演出, 儿童画展, 健康讲座, 马拉松, 合唱比赛
        """),
        venues=split("""
            市图书馆, 人民公园, 文化中心, 大剧院, 体育馆, 美术馆, 学校礼堂, 中心广场, 博物馆,
            会展中心, 社区活动室, 湖滨公园, 火车站广场, 青年宫, 植物园, 工人俱乐部
        """),
        notes=split("""
            买牛奶, 交房租, 打电话, 浇花, 寄包裹, 修自行车, 还书, 开会, 取快递, 洗车, 喂猫, 遛狗,
            看牙医, 买车票, 写作业, 打扫房间, 充电, 换灯泡, 接孩子, 跑步, 订机票, 买蛋糕, 交电费,
            见客户, 学英语, 做晚饭, 买邮票, 找钥匙, 理发, 存钱
        """),
        stamps=("已付款", "副本", "加急", "草稿", "机密", "已寄出", "作废", "样本", "合格"),
        things=split("""
            红色的包, 蓝色的文件夹, 旧相机, 花园的钥匙, 小桌子, 地图, 吉他, 相册, 绿色的外套,
            大箱子, 备用钥匙, 茶具, 台灯, 旅行手册, 木椅子, 白色的帐篷, 黑色的雨伞
        """),
        sentences=split("""
            请在{day}把{thing}带来。, 我们{time}在{city}见面。, 去{city}的火车{time}出发。,
            我已经把{thing}寄给{person}了。, {person}会在{city}等你。, {day}办公室{time}关门。,
            从{day}起就没有人见过{thing}。, {person}和我去年去过{city}。,
            新的{thing}比我们想的便宜。, 请在{time}以前给{person}打电话。,
            {city}的雨一直下到{day}。, 请告诉{person}，{thing}准备好了。,
            能不能把你的{thing}借给我？
        """),
        days=("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日"),
        months=tuple(f"{number}月" for number in range(1, 13)),
        dates=("{year}年{number}月{day}日", "{year}-{number:02d}-{day:02d}"),
        currencies=("¥", "¥", ""),
    ),
    comma="、",
    last="和",
    punctuation="。，！？：；.,:",
    places=(
        *("左上角", "上方中间", "右上角", "左侧中间", "正中间", "右侧中间"),
        *("左下角", "下方中间", "右下角"),
    ),
    colours=("红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "棕色"),
    ordinals=("一", "二", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二"),
    line_length=14,
    ask_field=("{label}是什么？", "{label}一栏写的是什么？", "请读出{label}。"),
    field="{label}：{value}",
    receipt=ReceiptPhrases(
        date="日期",
        time="时间",
        number="单号",
        cashier="收银员",
        columns=("品名", "数量", "单价", "金额"),
        subtotal="小计",
        tax="税",
        total="合计",
        cash="现金",
        change="找零",
        thanks=("谢谢惠顾", "欢迎再次光临", "祝您愉快", "多谢光临"),
        caption=(
            "一张{shop}的小票，共{count}种商品，合计{total}。",
            "这是{shop}的收据，列出{count}种商品，合计{total}。",
        ),
        detail=(
            "店铺地址是{street}。小票上写着{fields}。商品有{goods}。"
            "下面是{amounts}。最后一行是“{thanks}”。"
        ),
        good="{name}{price}",
        good_counted="{name}（{count}件，单价{price}，金额{sum}）",
        ask_field=("{label}一栏写的是什么？", "{label}旁边写的是什么？", "请读出{label}。"),
        ask_amount=("{label}是多少？", "小票上{label}一栏是多少？"),
        ask_total=("合计是多少？", "一共要付多少钱？"),
        ask_shop=("这是哪家店的小票？", "店名是什么？"),
        ask_street=("店铺的地址是什么？", "这家店在哪里？"),
        ask_price=("{name}的价格是多少？", "{name}旁边印的价格是多少？"),
        ask_unit=("{name}的单价是多少？", "一件{name}多少钱？"),
        ask_count=("买了几件{name}？", "{name}的数量是多少？"),
        ask_sum=("{name}的金额是多少？", "买{name}一共花了多少钱？"),
        ask_goods=("一共列出了几种商品？", "小票上有几种商品？"),
        ask_dearest=("哪种商品的单价最高？", "单价最贵的是什么？"),
        ask_nth=("列出的第{nth}种商品是什么？", "第{nth}行商品是什么？"),
        ask_tax_rate=("税率是多少？", "税是百分之几？请写成百分数。"),
    ),
    form=FormPhrases(
        titles=(
            *("报名表", "申请表", "会员登记表", "订货单", "访客登记表", "借书卡", "课程报名表"),
            *("旅行申请表", "体检表", "失物招领表", "租房登记表", "入住登记表", "入学登记表"),
        ),
        name="姓名",
        birth="出生日期",
        city="城市",
        street="地址",
        phone="电话",
        job="职业",
        date="填表日期",
        number="编号",
        choices=(
            ("尺码", ("小号", "中号", "大号")),
            ("付款", ("现金", "刷卡")),
            ("餐食", ("荤", "素")),
            ("票种", ("成人", "儿童", "团体")),
            ("座位", ("靠窗", "靠过道")),
            ("性别", ("男", "女")),
            ("语言", ("中文", "英文", "法文")),
            ("颜色", ("红", "蓝", "绿")),
            ("班级", ("初级", "中级", "高级")),
            ("送货", ("邮寄", "自取")),
        ),
        caption=("一张{title}，有{labels}等{count}栏。", "这是一张{title}，要填写{labels}。"),
        detail="已填写的内容是{fields}。",
        empty="空着没填的是{labels}。",
        ticked="{label}的选项有{options}，勾选的是{ticked}。",
        ask_title=("这张表的标题是什么？", "表格上方写的是什么？"),
        ask_label=("哪一栏写着{value}？", "{value}填在哪一栏？"),
        ask_below=("{label}的下面一栏是什么？", "紧接在{label}下面的是哪一栏？"),
        ask_num_fields=("这张表有几栏？", "一共有几个栏目？"),
        ask_num_empty=("有几栏空着没填？", "没有填写的栏目有几个？"),
        ask_which_empty=("哪一栏空着没填？", "哪一栏没有填写？"),
        ask_ticked=("{label}勾选的是哪一项？", "{label}选的是什么？"),
        ask_num_options=("{label}有几个选项？",),
    ),
    letter=LetterPhrases(
        greetings=("亲爱的{person}：", "{person}，你好：", "尊敬的{person}："),
        closings=("此致敬礼", "祝好", "祝工作顺利", "祝身体健康", "谢谢"),
        page=("第{number}页", "- {number} -"),
        caption=(
            "一封{sender}写给{recipient}的信，日期是{date}。",
            "这是{sender}在{date}写给{recipient}的信。",
        ),
        detail="信的内容是：“{greeting}{text}{closing}，{sender}”。页脚写着“{page}”。",
        stamp="信上有{colour}的印章“{stamp}”。",
        ask_line=("正文的第{nth}行写的是什么？", "请读出称呼下面的第{nth}行。"),
        ask_num_lines=("称呼和结尾祝语之间的正文有几行？",),
        ask_first_word=("正文第{nth}行的第一个字是什么？",),
        ask_last_word=("正文第{nth}行的最后一个字是什么？",),
        ask_recipient=("这封信是写给谁的？", "收信人是谁？"),
        ask_sender=("这封信是谁写的？", "落款是谁？"),
        ask_date=("这封信的日期是什么？", "信上写的日期是哪天？"),
        ask_page=("页码是多少？", "这是第几页？"),
        ask_stamp=("印章上写的是什么？", "信上盖了什么章？"),
        ask_stamp_colour=("印章是什么颜色的？",),
        ask_where_date=("日期在页面的什么位置？",),
        ask_where_page=("页码在页面的什么位置？",),
        ask_where_stamp=("印章在页面的什么位置？",),
    ),
    board=BoardPhrases(
        caption=("一块板上有{count}张便条：{texts}。", "板上贴着{count}张彩色便条，写着{texts}。"),
        detail="{place}的便条是{colour}的，写着“{text}”。",
        note="“{text}”",
        ask_at=("{place}写的是什么？", "{place}的便条上写着什么？"),
        ask_where=("写着“{text}”的便条在什么位置？", "“{text}”写在哪里？"),
        ask_colour=("写着“{text}”的便条是什么颜色的？",),
        ask_of_colour=("{colour}便条上写的是什么？", "{colour}的便条写着什么？"),
        ask_count=("一共有几张便条？", "板上有几张便条？"),
    ),
    poster=PosterPhrases(
        entry=("门票：{price}", "票价 {price}", "入场费：{price}"),
        free="免费",
        phone="电话 {phone}",
        caption=(
            "一张{event}的海报，时间是{date}，地点在{place}。",
            "海报预告{date}在{place}举行的{event}。",
        ),
        detail="活动{time}开始，票价是{price}，联系电话是{phone}。标题写在{colour}的横条上。",
        ask_event=("海报预告的是什么活动？", "海报的标题是什么？"),
        ask_date=("活动在哪一天举行？", "活动的日期是什么？"),
        ask_time=("活动几点开始？", "开始时间是几点？"),
        ask_place=("活动在哪里举行？", "活动的地点是哪里？"),
        ask_price=("票价是多少？", "门票多少钱？"),
        ask_phone=("联系电话是多少？", "可以打哪个电话？"),
        ask_band=("标题后面的横条是什么颜色的？",),
    ),
)
